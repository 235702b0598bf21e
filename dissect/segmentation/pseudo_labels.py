"""Where a concept lies on a generator's samples: drawn boxes, or a segmenter's masks."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.images import to_images
from dissect.annotations import AnnotatedImage, Annotations, Box, pixels_digest
from dissect.models import fingerprint, generate_batches, latents_for
from dissect.segmentation.segmenter import Segmenter

__all__ = ["ConceptLabels", "pseudo_label"]

# Boxes around smaller regions, as fractions of the image, would mostly be errors of the segmenter.
_MIN_REGION = 8 / 64**2


@dataclass(frozen=True, eq=False, repr=False)
class ConceptLabels(ShortRepr):
    """One concept on samples of one generator.

    Attributes:
        annotations: the samples, with boxes around the concept.
        masks: the concept's pixels, (N, H, W) bool, which are used instead of the boxes; or None.
    """

    annotations: Annotations
    masks: Tensor | None = None

    @property
    def concept(self) -> str:
        """The concept."""
        return self.annotations.concept

    def pixel_masks(self) -> Tensor:
        """The concept's pixels, (N, H, W) bool: its masks, or what lies in boxes by half.

        Raises:
            DissectError: images of several sizes.
        """
        if self.masks is not None:
            return self.masks
        return self.annotations.coverage(self.annotations.size) >= 0.5

    def coverage(self, grid: tuple[int, int]) -> Tensor:
        """The fraction of every cell that the concept covers, (N, *grid) in [0, 1], on the CPU.

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


def pseudo_label(
    model: nn.Module,
    segmenter: Segmenter,
    concept: str,
    n: int = 300,
    *,
    seed: int = 0,
    start: int = 0,
) -> ConceptLabels:
    """A segmenter's masks of a concept on `n` samples of a generator, with boxes around them.

    Args:
        model: the generator.
        segmenter: what labels its images.
        concept: one of the segmenter's classes.
        n: number of samples.
        seed: of the latents.
        start: index of the first latent.

    Returns:
        Labels whose boxes enclose connected regions of the masks.

    Raises:
        DissectError: a concept that the segmenter does not know, or fewer than 1 sample.
    """
    class_id = segmenter.class_id(concept)
    if n < 1:
        raise DissectError(f"labels need at least 1 sample, not {n}")
    masks: list[Tensor] = []
    images: list[AnnotatedImage] = []
    for batch in generate_batches(model, latents_for(model, n, seed, start=start)):
        masks.append((segmenter.labels(batch) == class_id).cpu())
        for pixels, mask in zip(to_images(batch), masks[-1], strict=True):
            images.append(
                AnnotatedImage(
                    height=pixels.shape[0],
                    width=pixels.shape[1],
                    boxes=_boxes_around(mask.numpy()),
                    seed=seed,
                    index=start + len(images),
                    sha256=pixels_digest(pixels),
                )
            )
    return ConceptLabels(Annotations(concept, tuple(images), fingerprint(model)), torch.cat(masks))


def _boxes_around(mask: NDArray[np.bool_]) -> tuple[Box, ...]:
    """Boxes around connected regions, but the smallest."""
    from scipy import ndimage

    regions, _ = ndimage.label(mask)
    boxes = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(regions), start=1):
        if (regions[rows, columns] == number).sum() >= _MIN_REGION * mask.size:
            width, height = columns.stop - columns.start, rows.stop - rows.start
            boxes.append(Box(columns.start, rows.start, width, height))
    return tuple(boxes)
