"""`dissect effect`: what removing units does, measured against controls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect._utils.errors import DissectError
from dissect._utils.progress import progress_bar
from dissect.cli.choosing import by_rule
from dissect.cli.chosen import chosen_edits
from dissect.cli.effect_text import effect_text
from dissect.cli.labels import LabelSamples, LabelSource, SegmenterName, open_labels
from dissect.cli.options import Boxes, Concept, Device, Json, Layer, Model, Out, RuleOrAuto, Seed
from dissect.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from dissect.effect.measure import Effect
    from dissect.segmentation import Segmenter
    from dissect.selection.search import Choice
    from dissect.surgery.intervention import Intervention

__all__ = ["effect"]

_WHERE = {"both": ("everywhere", "probe"), "everywhere": ("everywhere",), "probe": ("probe",)}
_REAL_IMAGES, _REAL_SEED = 1_000, 1  # a series on which neither generator nor segmenter learned
_SHOWN = 12


def effect(
    concept: Concept = "window",
    model: Model = "bedrooms64",
    layer: Layer = "layer8x8",
    boxes: Boxes = None,
    labels: LabelSource = "boxes",
    label_samples: LabelSamples = 300,
    units_file: Annotated[
        Path | None, typer.Option("--units", help="A units.json instead of the probe's units.")
    ] = None,
    rule: RuleOrAuto = "positive",
    where: Annotated[
        str,
        typer.Option(
            help="Where it acts: everywhere (the paper), probe (only at cells that the probe "
            "calls the concept), or both."
        ),
    ] = "both",
    strength: Annotated[
        float, typer.Option(help="0 untouched, 1 gone (the paper), 2 sign turned.")
    ] = 1.0,
    threshold: Annotated[
        float, typer.Option(help="Probability from which a cell counts as the concept.")
    ] = 0.5,
    segmenter: SegmenterName = None,
    n: Annotated[
        int, typer.Option("--n", help="Fresh latents for the edit itself.", min=10, max=100_000)
    ] = 1_000,
    random_sets: Annotated[
        int, typer.Option(help="Random unit sets, edited alike.", min=2, max=1_000)
    ] = 20,
    random_n: Annotated[
        int,
        typer.Option(
            help="Fresh latents for each random set and each other dose: the first of those.",
            min=10,
            max=100_000,
        ),
    ] = 300,
    out: Out = Path("out"),
    seed: Seed = 2,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure an edit on fresh latents: what it removed, what it kept, and what chance does."""
    output = Output(as_json=as_json)
    if where not in _WHERE:
        raise DissectError(f"--where {where!r} is not known: use {', '.join(_WHERE)}")
    # Before torch is imported, which alone takes seconds.
    with progress_bar("loading", 4) as progress:
        from dissect._utils.device import resolve_device
        from dissect._utils.distributed import ProcessGroup
        from dissect.effect.compare import fresh_latents
        from dissect.effect.study import study_effect, study_size
        from dissect.models import fingerprint, load
        from dissect.probe.fit import background_mean, fit_from_labels
        from dissect.segmentation import load_segmenter
        from dissect.surgery.intervention import Intervention
        from dissect.units import Units, parse_rule

        progress(1)
        # Refused before any work is done.
        Intervention(Units(layer, (), 1), threshold=threshold, strength=strength)
        parse_rule(rule or "positive")
        units = None if units_file is None else Units.load(units_file)
        group = ProcessGroup.from_environment()
        place = resolve_device(group.local_device(device))
        eyes = load_segmenter(segmenter, device=place)
        eyes.class_id(concept)
        generator = load(model, device=place)
        seen = open_labels(
            generator,
            model,
            concept,
            source=labels,
            boxes=boxes,
            segmenter=segmenter,
            n=label_samples,
            seed=0,
        )
        annotations = seen.annotations
        progress(1)
        probe = fit_from_labels(generator, seen, layer, scored=False)
        auto: Mapping[str, Choice] = {}
        if units is None and rule == "auto":
            auto = chosen_edits(
                rule,
                generator,
                model,
                layer,
                concept,
                probe,
                plain=strength == 1 and threshold == 0.5,
                labels=labels,
                segmenter=segmenter,
                out=out,
                output=output,
            )
            units = next(iter(auto.values())).intervention.units
        elif units is None:
            units = by_rule(rule or "positive", generator, layer, concept, probe, segmenter)
        units.check(fingerprint(generator), layer, len(probe.weight))
        z = fresh_latents(generator, n, seed, annotations)
        progress(1)
        elsewhere = background_mean(generator, seen, layer)
        real = None
        if group.is_main_process:  # which alone needs them; the others begin to measure
            real = _real_features(eyes, eyes.source, annotations.size)
        progress(1)
    edits = {
        name: auto[name].intervention
        if auto
        else Intervention(
            units, probe if name == "probe" else None, threshold=threshold, strength=strength
        )
        for name in _WHERE[where]
    }
    main = edits["probe" if "probe" in edits else "everywhere"]
    # No choice of units is in this one: it shows what there is to remove at those cells at all.
    filled = Intervention.fill(probe, elsewhere, layer=layer, threshold=threshold)
    beside = {"filled": filled} if "probe" in edits else {}
    size = study_size(edits, n, beside=beside, controls=random_sets, n_control_samples=random_n)
    with group.connect(), progress_bar("measuring", size) as progress:
        study = study_effect(
            generator,
            edits,
            z,
            eyes,
            concept,
            beside=beside,
            controls=random_sets,
            n_control_samples=random_n,
            seed=seed,
            group=group,
            progress=progress,
        )
    if not group.is_main_process:
        return
    with progress_bar("summing up", 2) as progress:
        from dissect._utils.io import write_image
        from dissect.effect.report import report
        from dissect.figures import effect_figure, effect_sheet

        found = report(study, real)
        progress(1)
        figure = effect_figure(found, edits)
        shown = _most_of_concept(next(iter(study.edits.values())))
        caption = (
            f"{model}, {layer}, rule {main.units.rule}: the {len(shown)} of {n} fresh samples "
            f"with most {concept} before"
        )
        rows = _rows(generator, edits, beside, z[shown], seed, concept)
        output.wrote(write_image(out / "effect.png", effect_sheet(rows, figure, caption=caption)))
        progress(1)
    values = {
        "concept": concept,
        "labels": labels,
        "layer": layer,
        "rule": main.units.rule,
        "where": where,
        "strength": main.strength,
        "threshold": main.threshold,
        "n_selected": len(main.units),
        "units": list(main.units.indices),
        "seed": seed,
        **found.edits["probe" if "probe" in edits else "everywhere"].to_dict(),
        **found.to_dict(),
    }
    output.result(values, effect_text(found, edits))


def _real_features(
    eyes: "Segmenter", source_name: str | None, size: tuple[int, int]
) -> "NDArray[np.float64] | None":
    """Features of images like those that the segmenter learned from; None where it has none."""
    from dissect._utils.images import to_tensor
    from dissect.data import source

    if eyes.features is None or source_name is None:
        return None
    opened = source(source_name, size=size[0], count=_REAL_IMAGES, seed=_REAL_SEED, progress=False)
    images = to_tensor(opened.images(range(len(opened))))
    features: NDArray[np.float64] = eyes.features(images).double().cpu().numpy()
    return features


def _most_of_concept(found: "Effect") -> list[int]:
    """The samples with most pixels of the concept before, in order of rows."""
    order: list[int] = (-found.before).argsort(kind="stable")[:_SHOWN].tolist()
    return sorted(order)


def _rows(
    generator: "nn.Module",
    edits: "Mapping[str, Intervention]",
    beside: "Mapping[str, Intervention]",
    z: "Tensor",
    seed: int,
    concept: str,
) -> "dict[str, NDArray[np.uint8]]":
    """The same samples before, after each edit, and after the first control of each."""
    from dissect._utils.images import to_images
    from dissect.models import generate

    where = {
        "everywhere": "removed everywhere",
        "probe": f"removed only where the\nprobe sees a {concept}",
    }
    states = {f"{len(edit.units)} units\n{where[name]}": edit for name, edit in edits.items()}
    if "filled" in beside:
        states[f"there, every unit as\nwhere there is no\n{concept}"] = beside["filled"]
    for name, edit in edits.items():
        states[f"{len(edit.units)} random units\n{where[name]}"] = edit.control(seed)
    rows = {"before": to_images(generate(generator, z))}
    for name, edit in states.items():
        rows[name] = to_images(generate(generator, z, edit=edit))
    return rows
