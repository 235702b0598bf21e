"""How far a segmenter can be trusted: against true masks, and against boxes drawn by eye."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dissect.annotations import Annotations
from dissect.data import RenderedSource, to_tensor
from dissect.errors import DissectError
from dissect.segment.segmenter import Segmenter

__all__ = ["BoxScore", "box_score", "intersection_over_union", "render_score"]

_BATCH = 250


@dataclass(frozen=True)
class BoxScore:
    """The segmenter against boxes on generated samples.

    Attributes:
        n_boxes, n_found: boxes, and those of them at least a share `inside` of which the
            segmenter calls the concept.
        n_without, n_alarms: samples without a box, and those of them on which it sees at least
            `pixels` pixels of the concept.
        inside, pixels: those two thresholds.
    """

    n_boxes: int
    n_found: int
    n_without: int
    n_alarms: int
    inside: float
    pixels: int

    @property
    def recall(self) -> float:
        """Share of the boxes that were found."""
        return self.n_found / max(self.n_boxes, 1)

    @property
    def false_alarms(self) -> float:
        """Share of the samples without a box on which the concept was seen."""
        return self.n_alarms / max(self.n_without, 1)


def render_score(segmenter: Segmenter, source: RenderedSource, n: int = 1_000) -> dict[str, float]:
    """IoU of each class over the last `n` renders of `source`, which training must not have seen.

    Raises:
        DissectError: the source has other classes, or fewer images.
    """
    if tuple(source.classes) != segmenter.classes:
        raise DissectError(f"{source.name} has other classes than the segmenter")
    if n > len(source):
        raise DissectError(f"{source.name} has {len(source)} images, fewer than {n}")
    predicted, true = [], []
    for first in range(len(source) - n, len(source), _BATCH):
        rows = np.arange(first, min(first + _BATCH, len(source)))
        predicted.append(segmenter.labels(to_tensor(source.images(rows))).numpy())
        true.append(source.masks(rows))
    return intersection_over_union(
        np.concatenate(predicted), np.concatenate(true), segmenter.classes
    )


def box_score(
    segmenter: Segmenter,
    images: NDArray[np.uint8],
    annotations: Annotations,
    *,
    inside: float = 0.5,
    pixels: int = 20,
) -> BoxScore:
    """The segmenter on annotated samples (N, H, W, 3) uint8 against the boxes on them.

    Raises:
        DissectError: the segmenter does not know the concept, or another number of images.
    """
    if len(images) != len(annotations):
        raise DissectError(f"{len(images)} images for annotations of {len(annotations)}")
    number = segmenter.number(annotations.concept)
    masks = segmenter.labels(to_tensor(images)).numpy() == number
    found = without = alarms = 0
    for mask, boxes in zip(masks, annotations.boxes, strict=True):
        for box in boxes:
            rows = slice(round(box.y), max(round(box.bottom), round(box.y) + 1))
            columns = slice(round(box.x), max(round(box.right), round(box.x) + 1))
            found += bool(mask[rows, columns].mean() >= inside)
        if not boxes:
            without += 1
            alarms += bool(mask.sum() >= pixels)
    return BoxScore(annotations.n_boxes, found, without, alarms, inside, pixels)


def intersection_over_union(
    predicted: NDArray[np.integer], true: NDArray[np.integer], classes: tuple[str, ...]
) -> dict[str, float]:
    """IoU of each class over all pixels together; 1 for a class that is in neither."""
    pairs = true.astype(np.int64).ravel() * len(classes) + predicted.astype(np.int64).ravel()
    table = np.bincount(pairs, minlength=len(classes) ** 2).reshape(len(classes), len(classes))
    both = np.diag(table).astype(float)
    either = table.sum(0) + table.sum(1) - both
    return {
        name: float(both[k] / either[k]) if either[k] else 1.0 for k, name in enumerate(classes)
    }
