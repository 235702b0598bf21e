"""`dissect probe`: which units speak for a concept, from boxes on samples."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect._utils.errors import DissectError
from dissect.cli.choosing import by_rule, check_rule
from dissect.cli.labels import LabelSamples, LabelSource, SegmenterName, open_labels
from dissect.cli.options import Boxes, Concept, Device, Json, Model, Out, Rule, Seed
from dissect.cli.output import Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import nn

    from dissect.annotations import Annotations
    from dissect.probe import Probe
    from dissect.units import Units

__all__ = ["probe"]

_SAMPLES_SHOWN = 8


def probe(
    concept: Concept = "window",
    model: Model = "bedrooms64",
    layer: Annotated[
        str, typer.Option("--layer", "-l", help="The layer; `all` scores every one.")
    ] = "layer8x8",
    boxes: Boxes = None,
    labels: LabelSource = "boxes",
    label_samples: LabelSamples = 300,
    segmenter: SegmenterName = None,
    rule: Rule = "positive",
    out: Out = Path("out"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Fit the paper's probe on boxes, score it on held-out samples, and list the units."""
    from dissect._utils.device import resolve_device
    from dissect._utils.io import write_image
    from dissect.figures import layer_scores_figure, rasterized
    from dissect.models import load
    from dissect.probe.fit import annotated_images, fit_from_labels, grid_layers

    output = Output(as_json=as_json)
    check_rule(rule)
    generator = load(model, device=resolve_device(device))
    found = open_labels(
        generator,
        model,
        concept,
        source=labels,
        boxes=boxes,
        segmenter=segmenter,
        n=label_samples,
        seed=seed,
    )
    annotations = found.annotations
    images = annotated_images(generator, annotations)
    if changed := annotations.differing(images):
        output.note(
            f"{len(changed)} of {len(annotations)} samples differ in some bytes from those "
            "annotated, though the model is the same: another processor or version rounds "
            "differently"
        )
    if layer == "all":
        probes = []
        for name in grid_layers(generator):
            try:
                probes.append(fit_from_labels(generator, found, name, seed=seed))
            except DissectError as error:
                # A grid may be too coarse for the boxes, and the others still say something.
                output.note(f"{name} is left out: {error}")
        if not probes:
            raise DissectError(f"no layer of {model} can be probed with these boxes")
        fitted = max(probes, key=lambda one: one.score.auc)
        scores = [
            (one.layer, one.score.auc, *one.score.auc_ci, one.score.shuffled_auc) for one in probes
        ]
        picture = rasterized(layer_scores_figure(scores))
        output.wrote(write_image(out / "layers.png", picture))
    else:
        fitted = fit_from_labels(generator, found, layer, seed=seed)
        probes = [fitted]
    units = by_rule(rule, generator, fitted.layer, annotations.concept, fitted, segmenter)
    output.wrote(units.save(out / "units.json"))
    output.wrote(fitted.save(out / "probe.json"))
    output.wrote(write_image(out / "probe.png", _picture(fitted, generator, annotations, images)))
    score = fitted.score
    values = {
        "concept": annotations.concept,
        "labels": labels,
        "layer": fitted.layer,
        "n_images": score.n_images,
        "n_boxes": annotations.n_boxes,
        "n_positive": score.n_positive,
        "n_negative": score.n_negative,
        "auc": score.auc,
        "auc_ci": list(score.auc_ci),
        "average_precision": score.average_precision,
        "average_precision_ci": list(score.average_precision_ci),
        "shuffled_auc": score.shuffled_auc,
        "shuffled_auc_ci": list(score.shuffled_auc_ci),
        "n_units": units.total,
        "n_selected": len(units),
        "units": list(units.indices),
        "sign_stability": [float(fitted.sign_stability[unit]) for unit in units.indices],
        "layers": {one.layer: {"auc": one.score.auc, "units": units.total} for one in probes},
    }
    output.result(values, _text(fitted, annotations, probes, units, labels))


def _picture(
    fitted: "Probe",
    generator: "nn.Module",
    annotations: "Annotations",
    images: "NDArray[np.uint8]",
) -> "Image.Image":
    from dissect.figures import probe_figure, rasterized
    from dissect.hooks import activations
    from dissect.probe.fit import annotated_latents

    # The samples with the largest boxes, where a unit has room to show what it answers to.
    areas = [sum(box.area for box in boxes) for boxes in annotations.boxes]
    shown = sorted(range(len(areas)), key=lambda place: -areas[place])[:_SAMPLES_SHOWN]
    figure = probe_figure(
        fitted,
        images[shown],
        [annotations.boxes[place] for place in shown],
        activations(generator, fitted.layer, annotated_latents(generator, annotations)[shown]),
    )
    return rasterized(figure)


def _text(
    fitted: "Probe", annotations: "Annotations", probes: list["Probe"], units: "Units", labels: str
) -> str:
    score = fitted.score
    lines = []
    if len(probes) > 1:
        lines += [f"{'layer':<14}AUC on held-out images (95%)   shuffled"]
        for one in probes:
            low, high = one.score.auc_ci
            lines.append(
                f"{one.layer:<14}{one.score.auc:.3f} ({low:.3f} to {high:.3f})        "
                f"{one.score.shuffled_auc:.3f}"
            )
    low, high = score.auc_ci
    p_low, p_high = score.average_precision_ci
    stable = sum(float(fitted.sign_stability[unit]) >= 0.95 for unit in units.indices)
    s_low, s_high = score.shuffled_auc_ci
    lines += [
        f"{annotations.concept} at {fitted.layer}: {annotations.n_boxes} "
        f"{'boxes' if labels == 'boxes' else 'masks'} on {score.n_images} samples, "
        f"{score.n_positive} cells inside, {score.n_negative} outside",
        f"AUC {score.auc:.3f} ({low:.3f} to {high:.3f}) on held-out samples; "
        f"shuffled labels {score.shuffled_auc:.3f} ({s_low:.3f} to {s_high:.3f})",
        f"average precision {score.average_precision:.3f} ({p_low:.3f} to {p_high:.3f}); "
        f"knowing nothing {score.prevalence:.3f}",
        f"{len(units)} of {units.total} units by rule {units.rule}; {stable} of them keep their "
        "sign in 95% of resamples",
    ]
    return "\n".join(lines)
