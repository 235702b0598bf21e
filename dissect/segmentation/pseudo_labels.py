"""Where a concept is on samples of a generator: boxes that were drawn, or a segmenter's masks."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from dissect._utils.errors import DissectError
from dissect._utils.images import to_images
from dissect.annotations import AnnotatedImage, Annotations, Box, pixels_digest
from dissect.models import fingerprint, latents_for
from dissect.segmentation import Segmenter

__all__ = ["Labels", "segmented_labels"]

_BATCH = 100
# A box around fewer pixels would be around specks of the segmenter.
_SPECK = 8


@dataclass(frozen=True, eq=False)
class Labels:
    """One concept on samples of one generator.

    Attributes:
        annotations: the samples, with boxes around the concept.
        masks: (N, H, W) bool, its pixels, which then count in the boxes' place; or None.
    """

    annotations: Annotations
    masks: Tensor | None = None

    @property
    def concept(self) -> str:
        """What the labels are of."""
        return self.annotations.concept

    def coverage(self, grid: tuple[int, int]) -> Tensor:
        """The share of every cell that is the concept, (N, *grid) in [0, 1], on the CPU.

        Raises:
            DissectError: a grid that is finer than the image.
        """
        if self.masks is None:
            return self.annotations.coverage(grid)
        height, width = self.masks.shape[1:]
        if height < grid[0] or width < grid[1]:
            raise DissectError(
                f"masks of {height}x{width} pixels have no {grid[0]}x{grid[1]} cells"
            )
        return adaptive_avg_pool2d(self.masks.float().unsqueeze(1), grid).squeeze(1)


def segmented_labels(
    model: nn.Module,
    segmenter: Segmenter,
    concept: str,
    n: int = 300,
    *,
    seed: int = 0,
    start: int = 0,
) -> Labels:
    """What the segmenter calls the concept on `n` samples, whose latents are `start` and on.

    Its boxes are around pixels that hang together.

    Raises:
        DissectError: a concept that the segmenter does not know, or fewer than 1 sample.
    """
    number = segmenter.number(concept)
    if n < 1:
        raise DissectError(f"labels need at least 1 sample, not {n}")
    masks, images = [], []
    for first in range(0, n, _BATCH):
        z = latents_for(model, min(_BATCH, n - first), seed, start=start + first)
        with torch.inference_mode():
            drawn = model(z)
            masks.append((segmenter.labels(drawn) == number).cpu())
        for place, (pixels, mask) in enumerate(zip(to_images(drawn), masks[-1], strict=True)):
            images.append(
                AnnotatedImage(
                    height=pixels.shape[0],
                    width=pixels.shape[1],
                    boxes=_boxes_around(mask.numpy()),
                    seed=seed,
                    index=start + first + place,
                    sha256=pixels_digest(pixels),
                )
            )
    return Labels(Annotations(concept, tuple(images), fingerprint(model)), torch.cat(masks))


def _boxes_around(mask: NDArray[np.bool_]) -> tuple[Box, ...]:
    from scipy import ndimage

    parts, _ = ndimage.label(mask)
    boxes = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts), start=1):
        if (parts[rows, columns] == number).sum() >= _SPECK:
            width, height = columns.stop - columns.start, rows.stop - rows.start
            boxes.append(Box(columns.start, rows.start, width, height))
    return tuple(boxes)
