"""`dissect choose` and `dissect rules`: the best edit, and every rule beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect._utils.progress import progress_bar
from dissect.cli.choosing import known_choices, look_for_choices
from dissect.cli.chosen import choice_text, choice_values
from dissect.cli.labels import LabelSamples, LabelSource, SegmenterName, open_eyes, open_labels
from dissect.cli.options import Boxes, Concept, Device, Json, Layer, Model, Out, Seed
from dissect.cli.output import Output
from dissect.cli.rules_text import rules_text

if TYPE_CHECKING:
    from torch import nn

    from dissect.annotations import Annotations
    from dissect.probe import Probe
    from dissect.surgery.intervention import Intervention

__all__ = ["choose", "rules"]

_RANKED = ("positive", "iou", "ace", "causal", "gradient")
_RANDOM = "random"


@dataclass(frozen=True)
class _Study:
    """A generator, where the concept is on its samples, and the probe of that."""

    generator: "nn.Module"
    annotations: "Annotations"
    probe: "Probe"


def choose(
    concept: Concept = "window",
    model: Model = "bedrooms64",
    layer: Layer = "layer8x8",
    boxes: Boxes = None,
    labels: LabelSource = "boxes",
    label_samples: LabelSamples = 300,
    segmenter: SegmenterName = None,
    n: Annotated[
        int, typer.Option("--n", help="Samples to choose on; as many others test.", min=20)
    ] = 1_000,
    out: Out = Path("out"),
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Look for the smallest edit that removes a concept and changes least; takes some minutes."""
    output = Output(as_json=as_json)
    with progress_bar("loading", 1) as progress:
        study = _open(model, concept, layer, boxes, labels, label_samples, segmenter, device)
        progress(1)
    choices = look_for_choices(
        study.generator, layer, concept, study.probe, segmenter, out, output, labels=labels, n=n
    )
    values = {"concept": concept, "layer": layer, "labels": labels, "n": n}
    edits = {name: choice_values(choice) for name, choice in choices.items()}
    output.result(
        {**values, "edits": edits}, "\n".join(choice_text(choice) for choice in choices.values())
    )


def rules(
    concept: Concept = "window",
    model: Model = "bedrooms64",
    layer: Layer = "layer8x8",
    boxes: Boxes = None,
    labels: LabelSource = "boxes",
    label_samples: LabelSamples = 300,
    segmenter: SegmenterName = None,
    n: Annotated[int, typer.Option("--n", help="Fresh latents to measure on.", min=20)] = 500,
    choose_n: Annotated[
        int, typer.Option("--choose-n", help="Samples that the rules choose on.", min=20)
    ] = 1_000,
    out: Out = Path("out"),
    seed: Seed = 2,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Compare every rule as it takes more units, everywhere and gated: a table and a curve."""
    output = Output(as_json=as_json)
    with progress_bar("loading", 2) as progress:
        study = _open(model, concept, layer, boxes, labels, label_samples, segmenter, device)
        progress(1)
        from dissect.effect.compare import fresh_latents
        from dissect.effect.curves import advantages, at_sizes, measure_rules
        from dissect.selection.rules import Scorer, scoring_steps

        generator, probe = study.generator, study.probe
        eyes = open_eyes(generator, segmenter)
        eyes.class_id(concept)
        z = fresh_latents(generator, n, seed, study.annotations)
        progress(1)
    choices = known_choices(generator, model, layer, concept, probe, out) or look_for_choices(
        generator, layer, concept, probe, segmenter, out, output, labels=labels, n=choose_n
    )
    total = len(probe.weight)
    with progress_bar("ranking", scoring_steps(_RANKED, choose_n, total)) as progress:
        scorer = Scorer(generator, layer, concept, probe, lambda: eyes, choose_n, progress)
        rankings = {name: scorer.ranking(name) for name in _RANKED}
    edits: dict[tuple[str, str], Intervention | Sequence[Intervention]] = {}
    own: dict[tuple[str, str], int] = {}
    for where, gate in (("everywhere", None), ("probe", probe)):
        edit = choices[where].intervention
        edits["auto", where] = [*choices[where].fewer, edit]
        own["auto", where] = len(edit.units)
        edits |= _edits(rankings, where, gate)
        own["positive", where] = len(rankings["positive"])
        edits[_RANDOM, where] = _shuffled(edit, seed)
    trials = sum(len(at_sizes(edit, own.get(name))) for name, edit in edits.items())
    with progress_bar("measuring", n * (1 + trials)) as progress:
        curves = measure_rules(generator, edits, own, z, eyes, concept, progress=progress)
    with progress_bar("summing up", 2) as progress:
        from dissect._utils.io import write_image
        from dissect.figures import rasterized, rules_figure

        found = []
        for where in ("everywhere", "probe"):
            best, *others = [curve for curve in curves if curve.where == where]
            found += advantages(best, [one for one in others if one.rule != _RANDOM])
        progress(1)
        output.wrote(write_image(out / "rules.png", rasterized(rules_figure(curves, concept))))
        progress(1)
    values: dict[str, Any] = {
        "concept": concept,
        "layer": layer,
        "labels": labels,
        "n_samples": n,
        "seed": seed,
        "rules": {
            where: {one.rule: one.rows() for one in curves if one.where == where}
            for where in ("everywhere", "probe")
        },
        "auto": {name: choice_values(choice) for name, choice in choices.items()},
        "advantages": [one.to_dict() for one in found],
    }
    output.result(values, rules_text(curves, found, choices))


def _open(
    model: str,
    concept: str,
    layer: str,
    boxes: Path | None,
    labels: str,
    label_samples: int,
    segmenter: str | None,
    device: str,
) -> _Study:
    from dissect._utils.device import resolve_device
    from dissect.models import load
    from dissect.probe.fit import fit_from_labels

    generator = load(model, device=resolve_device(device))
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
    return _Study(
        generator, seen.annotations, fit_from_labels(generator, seen, layer, scored=False)
    )


def _edits(
    rankings: "Mapping[str, Any]", where: str, gate: "Probe | None"
) -> "dict[tuple[str, str], Intervention]":
    """The paper's edit, of each rule's units."""
    from dissect.surgery.intervention import Intervention

    return {(name, where): Intervention(units, gate) for name, units in rankings.items()}


def _shuffled(edit: "Intervention", seed: int) -> "Intervention":
    """The edit of all units of the layer in a random order; its doses come round again."""
    from dataclasses import replace
    from itertools import cycle, islice

    import numpy as np

    total = edit.units.total
    order: Sequence[int] = np.random.default_rng(seed).permutation(total).tolist()
    units = replace(edit.units, indices=tuple(order), scores=(), rule=_RANDOM)
    own = edit.unit_strengths
    strengths = None if own is None else tuple(islice(cycle(own), total))
    return replace(edit, units=units, unit_strengths=strengths)
