"""`dissect probe`: which units a concept is read from, by boxes or masks on samples."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import LabelOptions, ModelOptions, OutputOptions, with_groups
from dissect.cli.output import Output
from dissect.cli.searched import check_rule, units_by_rule
from dissect.cli.study import Study

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from dissect.probe import Probe
    from dissect.units import Units

__all__ = ["probe"]

_SAMPLES_SHOWN = 8


@with_groups
def probe(
    model: ModelOptions,
    labels: LabelOptions,
    output: OutputOptions,
    rule: Annotated[
        str,
        typer.Option(
            help="The rule that chooses units: positive (every weight above 0, as in the paper), "
            "top:K (the K largest weights), iou:K or ace:K (as GAN Dissection chooses), causal:K "
            "(by measured effect), or gradient:K (by attribution)."
        ),
    ] = "positive",
) -> None:
    """Fit the paper's probe, score it on held-out samples, and list the units.

    With --layer all every layer is scored, and the best is taken.
    """
    printed = Output(as_json=output.as_json)
    check_rule(rule)
    from dissect._utils.images import to_images
    from dissect._utils.io import write_image
    from dissect.probe.fit import annotated_samples, note_of_changed_samples

    study = Study.load(model, labels, label_seed=output.seed)
    annotations = study.labels.annotations
    samples = annotated_samples(study.generator, annotations)
    images = to_images(samples)
    if note := note_of_changed_samples(annotations, samples):
        printed.note(note)
    probes = _fitted(study, printed, output)
    best = max(probes, key=lambda one: one.score.auc)
    study = replace(study, options=replace(model, layer=best.layer))
    units = (
        best.units(rule)
        if rule.partition(":")[0] in ("positive", "top")
        else units_by_rule(rule, study)
    )
    printed.wrote(units.save(output.out / "units.json"))
    printed.wrote(best.save(output.out / "probe.json"))
    printed.wrote(write_image(output.out / "probe.png", _picture(best, study, images)))
    score = best.score
    values = {
        "concept": annotations.concept,
        "labels": labels.labels,
        "layer": best.layer,
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
        "sign_stability": [float(best.sign_stability[unit]) for unit in units.indices],
        "layers": {one.layer: {"auc": one.score.auc, "units": units.total} for one in probes},
    }
    printed.result(values, _text(best, study, probes, units))


def _fitted(study: Study, printed: Output, output: OutputOptions) -> "list[Probe]":
    """The probe of the layer, or of every layer that has one."""
    from dissect._utils.io import write_image
    from dissect.figures import layer_scores_figure, rasterized
    from dissect.probe.fit import fit_from_labels, grid_layers

    if study.layer != "all":
        return [fit_from_labels(study.generator, study.labels, study.layer, seed=output.seed)]
    probes = []
    for name in grid_layers(study.generator):
        try:
            probes.append(fit_from_labels(study.generator, study.labels, name, seed=output.seed))
        except DissectError as error:
            # A grid may be too coarse for the boxes, and the others are scored all the same.
            printed.note(f"{name} is left out: {error}")
    if not probes:
        raise DissectError(f"no layer of {study.options.model} can be probed with these boxes")
    scores = [
        (one.layer, one.score.auc, *one.score.auc_ci, one.score.shuffled_auc) for one in probes
    ]
    picture = rasterized(layer_scores_figure(scores))
    printed.wrote(write_image(output.out / "layers.png", picture))
    return probes


def _picture(best: "Probe", study: Study, images: "NDArray[np.uint8]") -> "Image.Image":
    from dissect.figures import probe_figure, rasterized
    from dissect.hooks import activations
    from dissect.probe.fit import annotated_latents

    # The samples with the largest boxes, where a unit has room to show what it answers to.
    boxes = study.labels.annotations.boxes
    areas = [sum(box.area for box in one) for one in boxes]
    shown = sorted(range(len(areas)), key=lambda index: -areas[index])[:_SAMPLES_SHOWN]
    z = annotated_latents(study.generator, study.labels.annotations)[shown]
    figure = probe_figure(
        best,
        images[shown],
        [boxes[index] for index in shown],
        activations(study.generator, best.layer, z),
    )
    return rasterized(figure)


def _text(best: "Probe", study: Study, probes: "list[Probe]", units: "Units") -> str:
    score, annotations = best.score, study.labels.annotations
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
    stable = sum(float(best.sign_stability[unit]) >= 0.95 for unit in units.indices)
    s_low, s_high = score.shuffled_auc_ci
    lines += [
        f"{annotations.concept} at {best.layer}: {annotations.n_boxes} "
        f"{'boxes' if study.label_options.source == 'boxes' else 'masks'} on {score.n_images} "
        f"samples, {score.n_positive} cells inside, {score.n_negative} outside",
        f"AUC {score.auc:.3f} ({low:.3f} to {high:.3f}) on held-out samples; "
        f"shuffled labels {score.shuffled_auc:.3f} ({s_low:.3f} to {s_high:.3f})",
        f"average precision {score.average_precision:.3f} ({p_low:.3f} to {p_high:.3f}); "
        f"knowing nothing {score.prevalence:.3f}",
        f"{len(units)} of {units.total} units by rule {units.rule}; {stable} of them keep their "
        "sign in 95% of resamples",
    ]
    return "\n".join(lines)
