"""How far a segmenter can be trusted: against true masks, and against boxes drawn by eye."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect.annotations import Annotations, Box
from dissect.data import RenderedSource
from dissect.segmentation.segmenter import Segmenter

__all__ = ["BoxScore", "box_score", "intersection_over_union", "render_score"]

_BATCH = 250


@dataclass(frozen=True)
class BoxScore:
    """The segmenter against boxes on generated samples.

    Attributes:
        found: of each sample, for each of its boxes, whether the segmenter calls at least a share
            `inside` of the box the concept.
        seen: of each sample, how many pixels it calls the concept.
        inside: that share.
        pixels: how many pixels, on a sample without a box, are a false alarm.
    """

    found: tuple[tuple[bool, ...], ...]
    seen: tuple[int, ...]
    inside: float
    pixels: int

    @property
    def n_boxes(self) -> int:
        """Boxes on all samples."""
        return sum(map(len, self.found))

    @property
    def n_found(self) -> int:
        """Those of them that were found."""
        return sum(map(sum, self.found))

    @property
    def without(self) -> tuple[int, ...]:
        """Samples without a box, by their place."""
        return tuple(place for place, boxes in enumerate(self.found) if not boxes)

    @property
    def alarms(self) -> tuple[int, ...]:
        """Those of them on which the concept was seen."""
        return tuple(place for place in self.without if self.seen[place] >= self.pixels)

    @property
    def recall(self) -> float:
        """Share of the boxes that were found."""
        return self.n_found / max(self.n_boxes, 1)

    @property
    def recall_ci(self) -> tuple[float, float]:
        """95% interval of it (Wilson 1927)."""
        return _interval(self.n_found, self.n_boxes)

    @property
    def false_alarms(self) -> float:
        """Share of the samples without a box on which the concept was seen."""
        return len(self.alarms) / max(len(self.without), 1)

    @property
    def false_alarms_ci(self) -> tuple[float, float]:
        """95% interval of it (Wilson 1927)."""
        return _interval(len(self.alarms), len(self.without))


def render_score(segmenter: Segmenter, source: RenderedSource, n: int = 1_000) -> dict[str, float]:
    """IoU of each class over the last `n` renders of `source`, which training must not have seen.

    Of a segmenter with other classes, those that both know are scored.

    Raises:
        DissectError: no class in common, or fewer images.
    """
    shared = [name for name in source.classes if name in segmenter.classes]
    if not shared:
        raise DissectError(f"the segmenter knows none of the classes of {source.name}")
    if n > len(source):
        raise DissectError(f"{source.name} has {len(source)} images, fewer than {n}")
    # Everything that only one of the two knows is one more class, which is not scored.
    names = (*shared, "anything else")
    ours = np.array([_place(name, shared) for name in segmenter.classes])
    true = np.array([_place(name, shared) for name in source.classes])
    table = np.zeros((len(names), len(names)), np.int64)
    for first in range(len(source) - n, len(source), _BATCH):
        rows = np.arange(first, min(first + _BATCH, len(source)))
        predicted = segmenter.labels(to_tensor(source.images(rows))).cpu().numpy()
        table += _counted(ours[predicted], true[source.masks(rows)], len(names))
    scores = _scores(table, names)
    return {name: scores[name] for name in shared}


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
    sizes = {(image.height, image.width) for image in annotations.images}
    if wrong := sizes - {images.shape[1:3]}:
        height, width = min(wrong)
        raise DissectError(
            f"the boxes are on images of {width}x{height} pixels, and these have "
            f"{images.shape[2]}x{images.shape[1]}"
        )
    number = segmenter.number(annotations.concept)
    found, seen = [], []
    for first in range(0, len(images), _BATCH):
        masks = segmenter.labels(to_tensor(images[first : first + _BATCH])).numpy() == number
        seen += [int(mask.sum()) for mask in masks]
        for mask, boxes in zip(masks, annotations.boxes[first : first + _BATCH], strict=True):
            found.append(tuple(float(_inside(box, mask).mean()) >= inside for box in boxes))
    return BoxScore(tuple(found), tuple(seen), inside, pixels)


def intersection_over_union(
    predicted: NDArray[np.integer], true: NDArray[np.integer], classes: tuple[str, ...]
) -> dict[str, float]:
    """IoU of each class over all pixels together; 1 for a class that is in neither.

    Raises:
        DissectError: masks of different shapes.
    """
    if predicted.shape != true.shape:
        raise DissectError(f"masks of shape {predicted.shape} against masks of {true.shape}")
    return _scores(_counted(predicted, true, len(classes)), classes)


def _place(name: str, names: Sequence[str]) -> int:
    return names.index(name) if name in names else len(names)


def _counted(
    predicted: NDArray[np.integer], true: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """How many pixels of each true class (row) were given each class (column)."""
    pairs = true.astype(np.int64).ravel() * classes + predicted.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _scores(table: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    both = np.diag(table).astype(float)
    either = table.sum(0) + table.sum(1) - both
    return {
        name: float(both[k] / either[k]) if either[k] else 1.0 for k, name in enumerate(classes)
    }


def _inside(box: Box, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of `mask` inside a box: at least one, also of a thin one at the edge."""
    height, width = mask.shape
    top, left = min(round(box.y), height - 1), min(round(box.x), width - 1)
    return mask[top : max(round(box.bottom), top + 1), left : max(round(box.right), left + 1)]


def _interval(count: int, total: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share; everything where nothing was counted."""
    if not total:
        return (0.0, 1.0)
    z, share = 1.959964, count / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return (max(middle - half, 0.0), min(middle + half, 1.0))
