"""From boxes on a generator's samples, or a segmenter's masks, to a probe of its layers."""

import warnings
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.images import to_images
from dissect._utils.schema import FileModel, NonEmpty, parse, read_file, write_file
from dissect.annotations import Annotations
from dissect.hooks import activations, layer_names, record
from dissect.models import bundled_file, fingerprint, generate, latents_for
from dissect.probe.probe import Probe, ProbeFile, fit_probe
from dissect.segmentation.pseudo_labels import ConceptLabels
from dissect.surgery.frame import picture_frame

__all__ = [
    "NO_SCORE",
    "annotated_images",
    "annotated_latents",
    "annotated_samples",
    "background_mean",
    "fit_from_labels",
    "fit_probe_from_boxes",
    "grid_layers",
    "labelled_cells",
    "load_cached_probe",
    "note_of_changed_samples",
    "save_cached_probe",
]

# Settings of `fit_probe` where no score is needed: as few fits as possible.
NO_SCORE: Mapping[str, Any] = {"folds": 2, "resamples": 1, "shuffles": 2, "sign_fits": 1}


class _CachedProbeFile(FileModel):
    """A probe, and the digest of the boxes that it was fitted to."""

    KIND: ClassVar[str] = "probe of boxes"

    boxes: NonEmpty
    probe: ProbeFile


def annotated_latents(model: nn.Module, annotations: Annotations) -> Tensor:
    """The latents of the annotated images, in their order, as `model` takes them.

    Raises:
        DissectError: the boxes are for another model, or record no latents.
    """
    annotations.check_model(fingerprint(model))
    parts = []
    # Consecutive rows of a seed are drawn at once.
    rows = enumerate(annotations.latent_rows)
    for (seed, _), run in groupby(rows, key=lambda item: (item[1][0], item[1][1] - item[0])):
        indices = [index for _, (_, index) in run]
        parts.append(latents_for(model, len(indices), seed, start=indices[0]))
    return torch.cat(parts)


def annotated_images(model: nn.Module, annotations: Annotations) -> NDArray[np.uint8]:
    """The annotated images, drawn again: (N, H, W, 3) uint8.

    Raises:
        DissectError: as `annotated_latents`.
    """
    return to_images(annotated_samples(model, annotations))


def annotated_samples(model: nn.Module, annotations: Annotations) -> Tensor:
    """The same as the generator gives them, (N, C, H, W) in [-1, 1]."""
    return generate(model, annotated_latents(model, annotations))


def fit_probe_from_boxes(
    model: nn.Module,
    annotations: Annotations,
    *,
    layer: str,
    seed: int = 0,
    scored: bool = True,
) -> Probe:
    """The probe of `layer` for the annotated concept; the annotated latents are drawn here.

    Radford et al. (2015), section 6.3.1 (see `fit_probe`).

    A warning is given where samples differ by more than rounding from those that the boxes were
    drawn on.

    Args:
        model: the generator whose samples were annotated.
        annotations: boxes on its samples.
        layer: the layer that is probed.
        seed: of what is drawn at random in fitting.
        scored: False makes as few resamples as possible, ten times faster. The weights are the
            same; the intervals of the score and the stability of the signs mean nothing.

    Raises:
        DissectError: boxes for another model, no such layer, or a layer without a grid.

    >>> import dissect
    >>> G = dissect.load("bedrooms64")
    >>> boxes = dissect.Annotations.load(dissect.annotation_file("bedrooms64", "window"))
    >>> fit_probe_from_boxes(G, boxes, layer="layer8x8")
    Probe(layer=layer8x8, concept=window, units=256, auc=0.9958)
    """
    if note := note_of_changed_samples(annotations, annotated_samples(model, annotations)):
        warnings.warn(note, stacklevel=2)
    return fit_from_labels(model, ConceptLabels(annotations), layer, seed=seed, scored=scored)


def note_of_changed_samples(annotations: Annotations, samples: Tensor) -> str:
    """One sentence where samples are not those that were annotated; empty where all are.

    Args:
        annotations: boxes on the samples.
        samples: as `annotated_samples` gives them; rounding is no difference.
    """
    changed = annotations.differing(samples)
    if not changed:
        return ""
    return (
        f"{len(changed)} of {len(annotations)} samples differ from those annotated, by more than "
        "rounding, though the weights are the same: the boxes may not fit them"
    )


def load_cached_probe(
    name: str, model: nn.Module, annotations: Annotations, layer: str
) -> Probe | None:
    """What `fit_probe_from_boxes` gives without a score, where a bundled model brings just that.

    It saves the import of scikit-learn, which takes a second, where a page is loaded.

    Args:
        name: of the model.
        model: the generator whose samples were annotated.
        annotations: boxes on its samples.
        layer: the layer that is probed.

    Returns:
        None for other models, boxes or layers.

    Raises:
        DissectError: a damaged file.
    """
    try:
        path = bundled_file(name, f"probe-{annotations.concept}-{layer}.json")
    except DissectError:
        return None
    cached = read_file(path, _CachedProbeFile)
    if (cached.boxes, cached.probe.model) != (annotations.digest, fingerprint(model)):
        return None
    return Probe.from_file(cached.probe, str(path))


def save_cached_probe(path: str | Path, probe: Probe, annotations: Annotations) -> Path:
    """`path`, now holding the probe of these boxes for `load_cached_probe`."""
    fields = {"boxes": annotations.digest, "probe": probe.to_dict()}
    return write_file(path, parse(_CachedProbeFile, fields, "probe"))


def fit_from_labels(
    model: nn.Module,
    labels: ConceptLabels,
    layer: str,
    *,
    seed: int = 0,
    scored: bool = True,
    **settings: Any,
) -> Probe:
    """The probe of `layer` for a concept, from boxes or from a segmenter's masks.

    With masks, a cell's coverage is the fraction of its pixels that the segmenter labels as the
    concept. A mask follows shapes more closely than a box, and no annotator is needed; but the
    probe learns the segmenter's mistakes, too.

    Args:
        model: the generator whose samples are labelled.
        labels: where the concept is on them (see `pseudo_label` for masks).
        layer: the layer that is probed.
        seed: of what is drawn at random in fitting.
        scored: as `fit_probe_from_boxes` takes it.
        settings: what else `fit_probe` takes, such as `inside` and `C`.

    Raises:
        DissectError: labels for another model or on too few samples, no such layer, or a layer
            without a grid.
    """
    acts, coverage = labelled_cells(model, labels, layer)
    if not scored:
        settings |= NO_SCORE
    return fit_probe(
        acts,
        coverage,
        layer=layer,
        concept=labels.concept,
        model=fingerprint(model),
        seed=seed,
        **settings,
    )


def labelled_cells(model: nn.Module, labels: ConceptLabels, layer: str) -> tuple[Tensor, Tensor]:
    """The layer on the labelled samples, (N, C, h, w), and the cells' coverage, (N, h, w).

    Of a grid with a margin (see `picture_frame`), the cells of the picture.

    Raises:
        DissectError: labels for another model, no such layer, or a layer without a grid.
    """
    acts = activations(model, layer, annotated_latents(model, labels.annotations))
    if acts.ndim != 4:
        raise DissectError(
            f"layer {layer!r} gives {tuple(acts.shape)}, not a grid of units (N, C, H, W)"
        )
    frame = picture_frame(model, layer)
    if frame is not None:
        acts = frame.inner(acts)
    return acts, labels.coverage((acts.shape[2], acts.shape[3]))


def background_mean(model: nn.Module, labels: ConceptLabels | Annotations, layer: str) -> Tensor:
    """The mean of every unit of `layer` over the labelled cells without the concept, (C,).

    Raises:
        DissectError: boxes for another model, no such layer, one without a grid, or no such cell.
    """
    if isinstance(labels, Annotations):
        labels = ConceptLabels(labels)
    acts, coverage = labelled_cells(model, labels, layer)
    outside = coverage == 0
    if not bool(outside.any()):
        raise DissectError(f"the labels leave no cell of {layer!r} free of a {labels.concept}")
    return acts.movedim(1, -1)[outside.to(acts.device)].mean(0)


def grid_layers(model: nn.Module) -> list[str]:
    """The layers of `model` that hold units on a grid, in the order in which they run.

    Of a network built of blocks, the blocks, wherever they are: in a list of modules, or in a
    module that makes the whole image, such as a wrapper. What is inside a block is left out, and so
    are the layer that makes the image and grids of one cell.
    """
    z = latents_for(model, 1)
    image = tuple(generate(model, z).shape)
    names = layer_names(model)

    def blocks(above: str) -> Iterator[str]:
        for name in names:
            outer, _, own = name.rpartition(".")
            if outer != above or not own:
                continue
            shape = _shape(model, name, z)
            if shape is None or shape[1:] == image[1:]:
                yield from blocks(name)
            elif len(shape) == 4 and shape[2] * shape[3] > 1:
                yield name

    return list(blocks(""))


def _shape(model: nn.Module, layer: str, z: Tensor) -> tuple[int, ...] | None:
    """The shape of what the layer gives; None where it does not run, as a list of modules."""
    try:
        with torch.inference_mode(), record(model, layer, stop=True) as acts:
            model(z)
        return tuple(acts[layer].shape)
    except DissectError:
        return None
