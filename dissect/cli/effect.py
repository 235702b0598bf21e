"""`dissect effect`: what an edit does, measured against controls."""

from typing import TYPE_CHECKING, Annotated

import typer

from dissect._utils.progress import progress_bar
from dissect.cli.edit_options import EditOptions, save_edits
from dissect.cli.effect_text import effect_text
from dissect.cli.options import LabelOptions, ModelOptions, OutputOptions, with_groups
from dissect.cli.output import Output
from dissect.cli.study import Study

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from dissect.surgery import Intervention

__all__ = ["effect"]

_REAL_IMAGES, _REAL_SEED = 1_000, 1  # a series on which neither generator nor segmenter learned
_SHOWN = 12


@with_groups
def effect(
    model: ModelOptions,
    labels: LabelOptions,
    edit: EditOptions,
    output: OutputOptions,
    n: Annotated[
        int, typer.Option("--n", help="Fresh latents for the edit itself.", min=10, max=100_000)
    ] = 1_000,
    random_sets: Annotated[
        int, typer.Option(help="Random sets of units, edited alike.", min=2, max=1_000)
    ] = 20,
    control_n: Annotated[
        int,
        typer.Option(
            help="Fresh latents for each random set and for each other strength and number of "
            "units: the first ones.",
            min=10,
            max=100_000,
        ),
    ] = 300,
) -> None:
    """Measure an edit on fresh latents: what it removed, what it kept, and what chance does."""
    printed = Output(as_json=output.as_json, shared=True)
    edit.check()
    # Before torch is imported, which alone takes seconds.
    with progress_bar("loading", 4) as progress:
        from dissect._utils.distributed import ProcessGroup
        from dissect.effect.study import study_effect, study_size
        from dissect.probe.fit import background_mean
        from dissect.surgery import Intervention

        progress(1)
        study = Study.load(model, labels)
        study.segmenter  # noqa: B018 - refused here, before the work
        progress(1)
        edits = edit.load(study, printed, output.out)
        z = study.fresh(n, output.seed)
        progress(1)
        # No choice of units is in this one: it shows what there is to remove at those cells at all.
        gated = edits.get("probe")
        beside = {}
        if gated is not None:
            levels = background_mean(study.generator, study.labels, study.layer)
            beside["filled"] = Intervention.fill(
                study.probe,
                levels,
                layer=study.layer,
                threshold=gated.threshold if gated.gate is study.probe else 0.5,
            )
        group = ProcessGroup.from_environment()
        # Of several processes the first alone needs them; the others begin to measure.
        real = _real_features(study) if group.is_main_process else None
        progress(1)
    size = study_size(edits, n, beside=beside, controls=random_sets, n_control_samples=control_n)
    with group.connect(), progress_bar("measuring", size) as progress:
        measured = study_effect(
            study.generator,
            edits,
            z,
            study.segmenter,
            study.concept,
            beside=beside,
            controls=random_sets,
            n_control_samples=control_n,
            seed=output.seed,
            group=group,
            progress=progress,
        )
    if not group.is_main_process:
        return
    with progress_bar("summing up", 2) as progress:
        from dissect._utils.io import write_image
        from dissect.effect.report import report
        from dissect.figures import effect_figure, effect_sheet

        summed = report(measured, real)
        progress(1)
        main = gated or next(iter(edits.values()))
        before = next(iter(measured.edits.values())).before
        # The samples with most pixels of the concept before, in order of rows.
        shown = sorted((-before).argsort(kind="stable")[:_SHOWN].tolist())
        caption = (
            f"{model.model}, {study.layer}, rule {main.units.rule}: the {len(shown)} of {n} fresh "
            f"samples with most {study.concept} before"
        )
        rows = _rows(study, edits, beside, z[shown], output.seed)
        sheet = effect_sheet(rows, effect_figure(summed, edits), caption=caption)
        printed.wrote(write_image(output.out / "effect.png", sheet))
        save_edits(edits, printed, output.out)
        progress(1)
    values = {
        "concept": study.concept,
        "labels": labels.labels,
        "layer": study.layer,
        "rule": main.units.rule,
        "where": "both" if len(edits) == 2 else next(iter(edits)),
        "strength": main.strength,
        "threshold": main.threshold,
        "n_selected": len(main.units),
        "units": list(main.units.indices),
        "seed": output.seed,
        **summed.edits["probe" if gated is not None else next(iter(edits))].to_dict(),
        **summed.to_dict(),
    }
    printed.result(values, effect_text(summed, edits))


def _real_features(study: Study) -> "NDArray[np.float64] | None":
    """Features of images like those that the segmenter learned from; None where it has none."""
    from dissect._utils.images import to_tensor
    from dissect.data import source

    segmenter = study.segmenter
    if segmenter.features is None or segmenter.source is None:
        return None
    size = study.labels.annotations.size[0]
    images = source(
        segmenter.source, size=size, count=_REAL_IMAGES, seed=_REAL_SEED, show_progress=False
    )
    pixels = to_tensor(images.images(range(len(images))))
    features: NDArray[np.float64] = segmenter.features(pixels).double().cpu().numpy()
    return features


def _rows(
    study: Study,
    edits: "Mapping[str, Intervention]",
    beside: "Mapping[str, Intervention]",
    z: "Tensor",
    seed: int,
) -> "dict[str, NDArray[np.uint8]]":
    """The same samples before, after each edit, and after the first control of each."""
    from dissect.effect.compare import draw_each

    where = {
        "everywhere": "removed everywhere",
        "probe": f"removed only where the\nprobe sees a {study.concept}",
    }
    states: dict[str, Intervention | None] = {"before": None}
    for name, edit in edits.items():
        states[f"{len(edit.units)} units\n{where[name]}"] = edit
    if "filled" in beside:
        label = f"there, every unit as\nwhere there is no\n{study.concept}"
        states[label] = beside["filled"]
    for name, edit in edits.items():
        states[f"{len(edit.units)} random units\n{where[name]}"] = edit.control(seed)
    return draw_each(study.generator, z, states)
