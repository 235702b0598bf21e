"""`dissect swap`: another concept put in where the probe sees the first, which goes."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from dissect.cli.edit_options import save_edits
from dissect.cli.insert import Level, UnitCount, inserting_edit
from dissect.cli.options import (
    LabelOptions,
    ModelOptions,
    OutputOptions,
    SampleOptions,
    with_groups,
)
from dissect.cli.output import Output
from dissect.cli.study import Study

__all__ = ["swap"]

_COLUMNS = 15


@with_groups
def swap(
    new: Annotated[str, typer.Argument(help="The concept that is put in.")],
    model: ModelOptions,
    labels: LabelOptions,
    samples: SampleOptions,
    output: OutputOptions,
    rule: Annotated[
        str,
        typer.Option(
            help="The rule that chooses the units that are removed, such as positive or top:24.",
            rich_help_panel="Edit",
        ),
    ] = "positive",
    threshold: Annotated[
        float,
        typer.Option(
            help="The probe's probability from which a cell is edited.",
            min=0,
            max=1,
            rich_help_panel="Edit",
        ),
    ] = 0.5,
    k: UnitCount = 64,
    level: Level = 0.95,
) -> None:
    """Put another concept in where the probe sees the first, and measure what became of it."""
    printed = Output(as_json=output.as_json)
    n, pool = samples.n, samples.drawn
    from dissect._utils.images import to_images
    from dissect._utils.io import write_image
    from dissect.cli.searched import units_by_rule
    from dissect.effect.measure import measure_effect, observe
    from dissect.figures import labelled_rows, rasterized, replacement_figure
    from dissect.models import generate
    from dissect.surgery import Intervention

    study = Study.load(model, labels)
    other = replace(labels, concept=new, labels="segmenter", boxes=None)
    put = inserting_edit(study, other.load(study.generator, model.model), k, level)
    units = units_by_rule(rule, study)
    z = study.fresh(pool, output.seed)

    def gated(edit: Intervention) -> Intervention:
        return edit.with_gate(study.probe, threshold=threshold)

    edits = {
        "removed": gated(Intervention(units)),
        "swapped": gated(Intervention.swap(units, put)),
        "random": gated(Intervention.swap(units, put.control(output.seed))),
    }
    named = {
        "removed": f"{len(units)} {study.concept} units\nremoved",
        "swapped": f"and {len(put.units)} {new} units\nput in",
        "random": f"or {len(put.units)} random units\nput in",
    }
    before = observe(study.generator, study.segmenter, z)
    shown = study.shown(z, n)
    rows = {"before": to_images(generate(study.generator, z[shown]))}
    values: dict[str, Any] = {}
    became = {}
    for key, edit in edits.items():
        effect = measure_effect(
            study.generator,
            study.segmenter,
            z,
            study.concept,
            edit,
            before=before,
            with_features=False,
        )
        fractions = dict(zip(effect.classes, effect.replacement().tolist(), strict=True))
        became[named[key].replace("\n", " ")] = fractions
        values[key] = {
            "became": fractions,
            "removed": effect.removal(),
            "removed_ci": effect.estimate("removal").interval,
            "images_with": list(effect.prevalence_before_after()),
            "outside_change": effect.change(),
        }
        rows[named[key]] = to_images(generate(study.generator, z[shown], edit=edit))
    caption = (
        f"{model.model}, {study.layer}: the {len(shown)} of {pool} fresh samples in which the "
        f"probe sees most {study.concept}; edited only where it sees a {study.concept}"
    )
    sheet = labelled_rows(rows, columns=min(n, _COLUMNS), caption=caption)
    printed.wrote(write_image(output.out / "swap.png", sheet))
    figure = rasterized(replacement_figure(study.concept, became))
    printed.wrote(write_image(output.out / "swap_became.png", figure))
    save_edits({"probe": edits["swapped"]}, printed, output.out)
    result = {
        "concept": study.concept,
        "swap": new,
        "layer": study.layer,
        "n_removed": len(units),
        "n_put": len(put.units),
        "level": level,
        "threshold": threshold,
        "n_samples": pool,
        **values,
        "seed": output.seed,
    }
    lines = [f"what the pixels of a {study.concept} became, on {pool} fresh samples:"]
    for name, key in zip(became, edits, strict=True):
        fractions = became[name]
        lines.append(
            f"  {name}: {fractions[new]:.0%} {new}, {fractions[study.concept]:.0%} still "
            f"{study.concept}; outside changed by {values[key]['outside_change']:.3f}"
        )
    printed.result(result, "\n".join(lines))
