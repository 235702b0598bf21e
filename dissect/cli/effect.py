"""`dissect effect`: what removing units does, measured against controls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect.cli.options import Boxes, Concept, Device, Json, Layer, Model, Out, Rule, Seed
from dissect.cli.output import Output
from dissect.cli.probe import open_boxes

if TYPE_CHECKING:
    from dissect.effect import Effect

__all__ = ["effect"]


def effect(
    concept: Concept = "window",
    model: Model = "bedrooms64",
    layer: Layer = "layer8x8",
    boxes: Boxes = None,
    rule: Rule = "positive",
    strength: Annotated[
        float, typer.Option(help="0 untouched, 1 gone (the paper), 2 sign turned.")
    ] = 1.0,
    threshold: Annotated[
        float, typer.Option(help="Probability from which a cell counts as the concept.")
    ] = 0.5,
    segmenter: Annotated[
        Path | None, typer.Option("--segmenter", help="Weights; the bundled ones by default.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Fresh latents.", min=10, max=100_000)] = 400,
    controls: Annotated[
        int, typer.Option(help="Random unit sets of the same size.", min=1, max=1_000)
    ] = 20,
    out: Out = Path("out"),
    seed: Seed = 2,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure an edit on fresh latents: what it removed, what it kept, and what chance does."""
    from dissect.annotated import fit_from_boxes
    from dissect.comparison import Edit, fresh_latents
    from dissect.data import source, to_tensor
    from dissect.effect import frechet_distance, measure, observe
    from dissect.figures import effect_figure, rasterized
    from dissect.files import save_image
    from dissect.models import load, resolve_device
    from dissect.progress import progress_bar
    from dissect.segment import Segmenter, load_segmenter
    from dissect.surgery import ablated

    output = Output(as_json=as_json)
    place = resolve_device(device)
    edit = Edit(strength, "zero", threshold)
    generator = load(model, device=place)
    network, card = load_segmenter(segmenter, device=place)
    eyes = Segmenter.of(network)
    eyes.number(concept)
    annotations = open_boxes(boxes, model, concept)
    probe = fit_from_boxes(generator, annotations, layer, scored=False)
    units = probe.units(rule)
    z = fresh_latents(generator, n, seed, annotations)
    sizes = sorted({k for k in (2, 4, 8, 16, 32, 64, 128, 256) if k < len(units)} | {len(units)})
    with progress_bar("measuring", 1 + controls + 2 * len(sizes)) as advance:
        before = observe(generator, eyes, z)
        advance(1)

        def measured(chosen: Any, where: Any) -> "Effect":
            found = measure(
                generator,
                eyes,
                z,
                concept,
                lambda: ablated(
                    generator,
                    chosen,
                    where=where,
                    threshold=edit.threshold,
                    strength=edit.strength,
                ),
                before=before,
            )
            advance(1)
            return found

        curves = {
            name: {size: measured(units.top(size), where) for size in sizes}
            for name, where in (("everywhere", None), ("probe", probe))
        }
        random = [measured(units.random(seed + k), None) for k in range(controls)]
    edits = {name: curve[len(units)] for name, curve in curves.items()}
    renders = source(str(card.get("source", "bedrooms")), count=1_000, seed=1)
    features = eyes.features
    frechet: dict[str, float] = {}
    if features is not None and before.features is not None:
        real = features(to_tensor(renders.images(range(len(renders))))).double().cpu().numpy()
        frechet["before"] = frechet_distance(real, before.features)
        for name, found in edits.items():
            if found.features is not None:
                frechet[name] = frechet_distance(real, found.features)
    picture = rasterized(effect_figure(curves, random, concept=concept, units=len(units)))
    output.wrote(save_image(out / "effect.png", picture))
    values = {
        "concept": concept,
        "layer": layer,
        "rule": rule,
        "strength": strength,
        "n_selected": len(units),
        "n_samples": n,
        "edits": {name: _figures(found) for name, found in edits.items()},
        "random": {
            "n_sets": controls,
            "removed": [found.removed() for found in random],
            "outside_change": [found.change() for found in random],
            "kept_mean": [found.kept_mean() for found in random],
        },
        "curve": {
            name: [
                {
                    "units": size,
                    "removed": found.removed(),
                    "kept_mean": found.kept_mean(),
                    "outside_change": found.change(),
                }
                for size, found in curve.items()
            ]
            for name, curve in curves.items()
        },
        "frechet": frechet,
    }
    output.result(values, _text(values, edits, random))


def _figures(found: "Effect") -> dict[str, Any]:
    """The figures of one edit with their intervals, ready for JSON."""
    total = max(int(found.replaced.sum()), 1)
    return {
        "removed": found.removed(),
        "removed_ci": found.interval(lambda e, rows: e.removed(rows)),
        "shown_before": found.shown()[0],
        "shown_after": found.shown()[1],
        "shown_after_ci": found.interval(lambda e, rows: e.shown(rows)[1]),
        "kept": {name: found.kept(name) for name in found.classes if name != found.concept},
        "kept_mean": found.kept_mean(),
        "kept_mean_ci": found.interval(lambda e, rows: e.kept_mean(rows)),
        "outside_change": found.change(),
        "outside_change_ci": found.interval(lambda e, rows: e.change(rows=rows)),
        "inside_change": found.change(outside=False),
        "replaced_by": {
            name: int(count) / total
            for name, count in zip(found.classes, found.replaced, strict=True)
        },
    }


def _text(values: dict[str, Any], edits: dict[str, "Effect"], random: list["Effect"]) -> str:
    concept = values["concept"]
    lines = [
        f"{values['n_selected']} units of {values['layer']} by rule {values['rule']}, strength "
        f"{values['strength']:g}, on {values['n_samples']} fresh latents",
        f"{'edit':<22}{'removed':>22}{'images with':>13}{'bed IoU':>9}{'mean IoU':>10}"
        f"{'change outside':>16}",
    ]
    for name, found in edits.items():
        one = values["edits"][name]
        low, high = one["removed_ci"]
        bed = f"{one['kept']['bed']:.3f}" if "bed" in one["kept"] else "-"
        lines.append(
            f"{name:<22}{one['removed']:>8.1%} ({low:.1%} to {high:.1%})".ljust(46)
            + f"{found.shown()[1]:>9.1%}{bed:>12}{one['kept_mean']:>10.3f}"
            + f"{one['outside_change']:>16.4f}"
        )
    removed = [found.removed() for found in random]
    mean = sum(removed) / len(removed)
    lines += [
        f"{len(random)} random sets: {mean:.1%} removed (from {min(removed):.1%} to "
        f"{max(removed):.1%})",
        f"images with a {concept} before: {next(iter(edits.values())).shown()[0]:.1%}",
    ]
    for name, one in values["edits"].items():
        ranked = sorted(one["replaced_by"].items(), key=lambda item: -item[1])[:5]
        became = ", ".join(f"{label} {share:.0%}" for label, share in ranked)
        lines.append(f"what was {concept} became, {name}: {became}")
    if values["frechet"]:
        distances = ", ".join(f"{name} {value:.2f}" for name, value in values["frechet"].items())
        lines.append(f"Fréchet distance to renders (segmenter's features): {distances}")
    return "\n".join(lines)
