"""The accuracy of a segmenter: against true masks, and against boxes drawn by eye."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.result import Result
from dissect._utils.stats import wilson_interval
from dissect.annotations import Annotations, Box
from dissect.data import RenderedSource
from dissect.segmentation.segmenter import Segmenter

__all__ = ["BoxMatch", "evaluate_on_boxes", "evaluate_on_renders", "intersection_over_union"]

_BATCH = 250
_MIN_AREA = 20 / 64**2


@dataclass(frozen=True, repr=False)
class BoxMatch(Result):
    """Boxes on generated samples, and whether a segmenter agrees with them.

    Attributes:
        detected: for each sample and each of its boxes, whether the segmenter gives at least the
            fraction `min_overlap` of the box's pixels to the concept.
        areas: for each sample, the fraction of its pixels that it gives to the concept.
        min_overlap: see `detected`.
        min_area: the area from which a sample without a box is a false alarm.
    """

    detected: tuple[tuple[bool, ...], ...]
    areas: tuple[float, ...]
    min_overlap: float
    min_area: float

    @property
    def n_boxes(self) -> int:
        """Number of boxes on all samples."""
        return sum(map(len, self.detected))

    @property
    def n_detected(self) -> int:
        """Number of boxes that were detected."""
        return sum(map(sum, self.detected))

    @property
    def negatives(self) -> tuple[int, ...]:
        """The indices of samples without a box."""
        return tuple(index for index, boxes in enumerate(self.detected) if not boxes)

    @property
    def false_alarms(self) -> tuple[int, ...]:
        """The indices of samples without a box on which the concept is found."""
        return tuple(index for index in self.negatives if self.areas[index] >= self.min_area)

    @property
    def recall(self) -> float:
        """The fraction of boxes that were detected; NaN without boxes."""
        return self.n_detected / self.n_boxes if self.n_boxes else float("nan")

    @property
    def recall_ci(self) -> tuple[float, float]:
        """Its 95% interval (Wilson 1927)."""
        return wilson_interval(self.n_detected, self.n_boxes)

    @property
    def false_alarm_rate(self) -> float:
        """The fraction of samples without a box that are false alarms; NaN without such samples."""
        return len(self.false_alarms) / len(self.negatives) if self.negatives else float("nan")

    @property
    def false_alarm_rate_ci(self) -> tuple[float, float]:
        """Its 95% interval (Wilson 1927)."""
        return wilson_interval(len(self.false_alarms), len(self.negatives))

    def summary(self) -> dict[str, int | float]:
        """Boxes and how many were detected, samples without boxes and the false alarms on them."""
        return {
            "n_boxes": self.n_boxes,
            "recall": self.recall,
            "n_negatives": len(self.negatives),
            "false_alarm_rate": self.false_alarm_rate,
        }


def evaluate_on_renders(
    segmenter: Segmenter, source: RenderedSource, n: int = 1_000
) -> dict[str, float]:
    """IoU of each class over the last `n` renders of `source`, which training must not have used.

    Only classes that the segmenter and the source both have are scored.

    Raises:
        DissectError: no class in common, or fewer images.
    """
    shared = [name for name in source.classes if name in segmenter.classes]
    if not shared:
        raise DissectError(f"the segmenter knows none of the classes of {source.name}")
    if n > len(source):
        raise DissectError(f"{source.name} has {len(source)} images, fewer than {n}")
    # All classes that only one of the two has are merged into one more, which is not scored.
    names = (*shared, "anything else")
    ours = np.array([_index(name, shared) for name in segmenter.classes])
    true = np.array([_index(name, shared) for name in source.classes])
    confusion = np.zeros((len(names), len(names)), np.int64)
    for first in range(len(source) - n, len(source), _BATCH):
        rows = np.arange(first, min(first + _BATCH, len(source)))
        predicted = segmenter.labels(to_tensor(source.images(rows))).cpu().numpy()
        confusion += _confusion(ours[predicted], true[source.masks(rows)], len(names))
    scores = _scores(confusion, names)
    return {name: scores[name] for name in shared}


def evaluate_on_boxes(
    segmenter: Segmenter,
    images: NDArray[np.uint8],
    annotations: Annotations,
    *,
    min_overlap: float = 0.5,
    min_area: float = _MIN_AREA,
) -> BoxMatch:
    """The segmenter on annotated samples, compared with the boxes on them.

    Args:
        segmenter: what is evaluated.
        images: the annotated samples, (N, H, W, 3) uint8.
        annotations: the boxes on them, in the same order.
        min_overlap: the fraction of a box's pixels that detects it.
        min_area: the fraction of an image's pixels that is a false alarm where no box is; by
            default 20 pixels of 64x64.

    Raises:
        DissectError: the segmenter does not know the concept, or another number or size of images.
    """
    if len(images) != len(annotations):
        raise DissectError(f"{len(images)} images for annotations of {len(annotations)}")
    sizes = {(image.height, image.width) for image in annotations.images}
    if wrong := sizes - {images.shape[1:3]}:
        height, width = min(wrong)
        raise DissectError(
            f"the boxes are on images of {width}x{height} pixels, and these have "
            f"{images.shape[2]}x{images.shape[1]}"
        )
    class_id = segmenter.class_id(annotations.concept)
    detected: list[tuple[bool, ...]] = []
    areas: list[float] = []
    for first in range(0, len(images), _BATCH):
        labels = segmenter.labels(to_tensor(images[first : first + _BATCH])).numpy()
        masks = labels == class_id
        areas += masks.mean((1, 2)).tolist()
        for mask, boxes in zip(masks, annotations.boxes[first : first + _BATCH], strict=True):
            overlaps = (float(_inside(box, mask).mean()) for box in boxes)
            detected.append(tuple(overlap >= min_overlap for overlap in overlaps))
    return BoxMatch(tuple(detected), tuple(areas), min_overlap, min_area)


def intersection_over_union(
    predicted: NDArray[np.integer], true: NDArray[np.integer], classes: tuple[str, ...]
) -> dict[str, float]:
    """IoU of each class over all pixels together; NaN for a class that is in neither mask.

    Raises:
        DissectError: masks of different shapes.

    >>> masks = np.array([[0, 1]]), np.array([[1, 1]])
    >>> intersection_over_union(*masks, ("wall", "window"))
    {'wall': 0.0, 'window': 0.5}
    """
    if predicted.shape != true.shape:
        raise DissectError(f"masks of shape {predicted.shape} against masks of {true.shape}")
    return _scores(_confusion(predicted, true, len(classes)), classes)


def _index(name: str, names: Sequence[str]) -> int:
    return names.index(name) if name in names else len(names)


def _confusion(
    predicted: NDArray[np.integer], true: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Number of pixels of each true class (row) that were given each class (column)."""
    pairs = true.astype(np.int64).ravel() * classes + predicted.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _scores(confusion: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    both = np.diag(confusion).astype(float)
    either = confusion.sum(0) + confusion.sum(1) - both
    return {
        name: float(both[k] / either[k]) if either[k] else float("nan")
        for k, name in enumerate(classes)
    }


def _inside(box: Box, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of `mask` inside a box: at least one, even for a thin box at the edge."""
    height, width = mask.shape
    top, left = min(round(box.y), height - 1), min(round(box.x), width - 1)
    return mask[top : max(round(box.bottom), top + 1), left : max(round(box.right), left + 1)]
