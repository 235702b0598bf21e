"""`dissect effect`: what removing units does, measured against controls."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect.cli.options import Boxes, Concept, Device, Json, Layer, Model, Out, Rule, Seed
from dissect.cli.output import Output
from dissect.cli.probe import open_boxes
from dissect.errors import DissectError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from dissect.effect import Effect
    from dissect.effect_study import EffectStudy

__all__ = ["effect"]

_WHERE = {"both": ("everywhere", "probe"), "everywhere": ("everywhere",), "probe": ("probe",)}
_REAL_IMAGES, _REAL_SEED = 1_000, 1  # a series on which neither generator nor segmenter learned


def effect(
    concept: Concept = "window",
    model: Model = "bedrooms64",
    layer: Layer = "layer8x8",
    boxes: Boxes = None,
    units_file: Annotated[
        Path | None, typer.Option("--units", help="A units.json instead of the probe's units.")
    ] = None,
    rule: Rule = "positive",
    where: Annotated[
        str, typer.Option(help="everywhere (the paper), probe (gated), or both.")
    ] = "both",
    strength: Annotated[
        float, typer.Option(help="0 untouched, 1 gone (the paper), 2 sign turned.")
    ] = 1.0,
    threshold: Annotated[
        float, typer.Option(help="Probability from which a cell counts as the concept.")
    ] = 0.5,
    segmenter: Annotated[
        Path | None, typer.Option("--segmenter", help="Weights; the bundled ones by default.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Fresh latents.", min=10, max=100_000)] = 300,
    controls: Annotated[
        int, typer.Option(help="Random unit sets of the same size at each gate.", min=1, max=1_000)
    ] = 20,
    out: Out = Path("out"),
    seed: Seed = 2,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure an edit on fresh latents: what it removed, what it kept, and what chance does."""
    from dissect.annotated import fit_from_boxes, mean_elsewhere
    from dissect.comparison import Edit, filled, fresh_latents
    from dissect.data import source, to_tensor
    from dissect.effect_study import study_effect, study_size
    from dissect.figures import effect_figure, rasterized
    from dissect.files import save_image
    from dissect.models import fingerprint, load, resolve_device
    from dissect.progress import progress_bar
    from dissect.segment import Segmenter, load_segmenter
    from dissect.units import Units

    output = Output(as_json=as_json)
    if where not in _WHERE:
        raise DissectError(f"--where {where!r} is not known: use {', '.join(_WHERE)}")
    edit = Edit(strength, "zero", threshold)
    place = resolve_device(device)
    generator = load(model, device=place)
    network, card = load_segmenter(segmenter, device=place)
    eyes = Segmenter.of(network)
    eyes.number(concept)
    annotations = open_boxes(boxes, model, concept)
    probe = fit_from_boxes(generator, annotations, layer, scored=False)
    if units_file is None:
        units = probe.units(rule)
    else:
        units = Units.load(units_file)
        units.check(fingerprint(generator), layer, len(probe.weight))
    gates = {name: probe if name == "probe" else None for name in _WHERE[where]}
    elsewhere = mean_elsewhere(generator, annotations, layer)
    z = fresh_latents(generator, n, seed, annotations)
    renders = source(str(card.get("source", "bedrooms")), count=_REAL_IMAGES, seed=_REAL_SEED)
    assert eyes.features is not None
    real = eyes.features(to_tensor(renders.images(range(len(renders))))).double().cpu().numpy()
    with progress_bar("measuring", study_size(len(units), len(gates), controls)) as advance:
        study = study_effect(
            generator,
            units,
            z,
            eyes,
            concept,
            gates=gates,
            strength=edit.strength,
            threshold=edit.threshold,
            controls=controls,
            seed=seed,
            real=real,
            fill=partial(filled, generator, probe, elsewhere, threshold=edit.threshold)
            if "probe" in gates
            else None,
            watch=advance,
        )
    picture = effect_figure(
        study.by_units,
        study.by_strength,
        study.random,
        concept=concept,
        units=len(units),
        strength=edit.strength,
    )
    output.wrote(save_image(out / "effect.png", rasterized(picture)))
    edits = {name: _figures(found) for name, found in study.edits.items()}
    shown = edits["probe" if "probe" in edits else "everywhere"]
    values = {
        "concept": concept,
        "layer": layer,
        "rule": units.rule,
        "strength": strength,
        "threshold": threshold,
        "n_selected": len(units),
        "n_samples": n,
        **{key: shown[key] for key in ("removed", "removed_ci", "kept", "outside_change")},
        "edits": edits,
        "random": {name: _controls(found) for name, found in study.random.items()},
        "by_units": {name: _curve(curve) for name, curve in study.by_units.items()},
        "by_strength": {name: _curve(curve) for name, curve in study.by_strength.items()},
        "frechet": dict(study.frechet),
    }
    output.result(values, _text(values, study))


def _figures(found: "Effect") -> dict[str, Any]:
    """The figures of one edit with their intervals, ready for JSON."""
    total = max(int(found.replaced.sum()), 1)
    return {
        "removed": found.removed(),
        "removed_ci": list(found.interval(lambda e, rows: e.removed(rows))),
        "shown_before": found.shown()[0],
        "shown_after": found.shown()[1],
        "shown_after_ci": list(found.interval(lambda e, rows: e.shown(rows)[1])),
        "kept": {name: found.kept(name) for name in found.classes if name != found.concept},
        "kept_ci": {
            name: list(found.interval(partial(_kept, name)))
            for name in found.classes
            if name != found.concept
        },
        "kept_mean": found.kept_mean(),
        "outside_change": found.change(),
        "outside_change_ci": list(found.interval(lambda e, rows: e.change(rows=rows))),
        "inside_change": found.change(outside=False),
        "replaced_by": {
            name: int(count) / total
            for name, count in zip(found.classes, found.replaced, strict=True)
        },
    }


def _kept(name: str, found: "Effect", rows: "NDArray[np.int64]") -> float:
    return found.kept(name, rows)


def _controls(found: "Sequence[Effect]") -> dict[str, Any]:
    return {
        "n_sets": len(found),
        "removed": [one.removed() for one in found],
        "shown_after": [one.shown()[1] for one in found],
        "kept_mean": [one.kept_mean() for one in found],
        "outside_change": [one.change() for one in found],
    }


def _curve(curve: Any) -> list[dict[str, float]]:
    return [
        {
            "dose": dose,
            "removed": found.removed(),
            "shown_after": found.shown()[1],
            "kept_mean": found.kept_mean(),
            "outside_change": found.change(),
        }
        for dose, found in curve.items()
    ]


def _text(values: dict[str, Any], study: "EffectStudy") -> str:
    concept = values["concept"]
    first = next(iter(study.edits.values()))
    lines = [
        f"{values['n_selected']} units of {values['layer']} by rule {values['rule']}, strength "
        f"{values['strength']:g}, on {values['n_samples']} fresh latents; {first.shown()[0]:.0%} "
        f"of the images show a {concept} before",
        f"{'':<22}{concept + ' removed (95%)':<29}{'shown after':<13}{'IoU bed':<9}"
        f"{'IoU mean':<10}{'change outside':<16}Fréchet",
    ]
    for name, found in study.edits.items():
        one = values["edits"][name]
        low, high = one["removed_ci"]
        bed = f"{one['kept']['bed']:.3f}" if "bed" in one["kept"] else "-"
        distance = f"{study.frechet[name]:.2f}" if name in study.frechet else "-"
        lines.append(
            f"{name:<22}{f'{found.removed():.1%} ({low:.1%} to {high:.1%})':<29}"
            f"{f'{found.shown()[1]:.1%}':<13}{bed:<9}{f'{found.kept_mean():.3f}':<10}"
            f"{f'{found.change():.4f}':<16}{distance}"
        )
    for name, controls in study.random.items():
        removed = [one.removed() for one in controls]
        mean = sum(removed) / len(removed)
        span = f"{mean:.1%} ({min(removed):.1%} to {max(removed):.1%})"
        shown = sum(one.shown()[1] for one in controls) / len(controls)
        kept = sum(one.kept_mean() for one in controls) / len(controls)
        change = sum(one.change() for one in controls) / len(controls)
        bed = (
            f"{sum(one.kept('bed') for one in controls) / len(controls):.3f}"
            if "bed" in first.classes
            else "-"
        )
        lines.append(
            f"{f'random, {name}':<22}{span:<29}{f'{shown:.1%}':<13}{bed:<9}{f'{kept:.3f}':<10}"
            f"{f'{change:.4f}':<16}mean of {len(controls)} sets, and their range"
        )
    for name, one in values["edits"].items():
        ranked = sorted(one["replaced_by"].items(), key=lambda item: -item[1])[:6]
        became = ", ".join(f"{label} {share:.0%}" for label, share in ranked if share >= 0.005)
        lines.append(f"what was {concept} is now ({name}): {became}")
    if "before" in study.frechet:
        lines.append(f"Fréchet distance to renders before: {study.frechet['before']:.2f}")
    return "\n".join(lines)
