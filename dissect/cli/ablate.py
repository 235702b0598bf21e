"""`dissect ablate`: samples before and after the removal of units, with the control."""

from typing import TYPE_CHECKING, Any

from dissect.cli.edit_options import EditOptions, save_edits
from dissect.cli.edit_text import edit_text, edit_values, how_text
from dissect.cli.options import (
    LabelOptions,
    ModelOptions,
    OutputOptions,
    SampleOptions,
    with_groups,
)
from dissect.cli.output import Output
from dissect.cli.study import Study

if TYPE_CHECKING:
    from dissect.surgery import Intervention

__all__ = ["ablate"]

_COLUMNS = 15


@with_groups
def ablate(
    model: ModelOptions,
    labels: LabelOptions,
    edit: EditOptions,
    samples: SampleOptions,
    output: OutputOptions,
) -> None:
    """Remove units, and draw fresh samples before, after, and with as many random units removed."""
    printed = Output(as_json=output.as_json)
    edit.check()
    n, pool = samples.n, samples.drawn
    from dissect._utils.io import write_image
    from dissect.effect.compare import draw_each
    from dissect.figures import labelled_rows

    study = Study.load(model, labels)
    edits = edit.load(study, printed, output.out)
    z = study.fresh(pool, output.seed)
    shown = study.shown(z, n)
    rows = draw_each(study.generator, z[shown], _states(study, edits, output.seed))
    chosen = study.shown_text(n, pool)
    rule = next(iter(edits.values())).units.rule
    caption = f"{model.model}, {study.layer}, rule {rule}: {chosen}"
    sheet = labelled_rows(rows, columns=min(n, _COLUMNS), caption=caption)
    printed.wrote(write_image(output.out / "ablate.png", sheet))
    save_edits(edits, printed, output.out)
    values: dict[str, Any] = {
        "concept": study.concept,
        "labels": labels.labels,
        "layer": study.layer,
        "where": "both" if len(edits) == 2 else next(iter(edits)),
        **edit_values(edits.get("probe") or next(iter(edits.values()))),
        "edits": {name: edit_values(one) for name, one in edits.items()},
        "n_samples": n,
        "pool": pool,
        "shown": shown,
        "seed": output.seed,
    }
    lines = [f"rule {rule} on {chosen}:"]
    lines += [f"  {edit_text(one)}" for one in edits.values()]
    printed.result(values, "\n".join(lines))


def _states(
    study: Study, edits: "dict[str, Intervention]", seed: int
) -> "dict[str, Intervention | None]":
    """Every row of the sheet: before, each edit, the cells filled, each control."""
    from dissect.probe.fit import background_mean
    from dissect.surgery import Intervention

    places = {
        "everywhere": "everywhere",
        "probe": f"where a probe\nsees a {study.concept}",
    }
    states: dict[str, Intervention | None] = {"before": None}
    for name, edit in edits.items():
        count = f"{len(edit.units)} {edit.units.noun}"
        states[f"{count}, {how_text(edit)}\n{_place(edit, places[name])}"] = edit
    gated = edits.get("probe")
    if gated is not None and gated.gate is study.probe and gated.region is None:
        levels = background_mean(study.generator, study.labels, study.layer)
        states[f"there, every unit as\nwhere there is no\n{study.concept}"] = Intervention.fill(
            study.probe, levels, layer=study.layer, threshold=gated.threshold
        )
    for name, edit in edits.items():
        label = (
            f"{len(edit.units)} random {edit.units.noun},\nthe same, {_place(edit, places[name])}"
        )
        states[label] = edit.control(seed)
    return states


def _place(edit: "Intervention", place: str) -> str:
    return place if edit.region is None else f"{place}\nin the region"
