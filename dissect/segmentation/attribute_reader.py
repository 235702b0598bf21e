"""Attribute readers: functions from images to named numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.text import near_names
from dissect.segmentation.attribute_network import AttributeNetwork
from dissect.segmentation.segmenter import Segmenter

__all__ = ["AttributeReader"]

_BATCH = 128
_SIDE_FRACTION = 0.01  # fraction of the pixels at which a class's side counts half


@dataclass(frozen=True, eq=False, repr=False)
class AttributeReader(ShortRepr):
    """Named attributes of images; any callable can be wrapped.

    Attributes:
        names: in the order of the columns.
        read: images (N, 3, H, W) in [-1, 1] to attributes (N, len(names)), float32.
        features: images to (N, F), a space in which images are compared, or None.
        image_size: side of the images that it reads; None takes any.
        differentiable: the function that `read` computes, or one near to it, with gradients to
            the images; None where there is none.

    >>> reader = AttributeReader(("brightness",), lambda images: images.mean((1, 2, 3))[:, None])
    >>> reader.read(torch.ones(2, 3, 4, 4)).tolist()
    [[1.0], [1.0]]
    """

    names: tuple[str, ...]
    read: Callable[[Tensor], Tensor]
    features: Callable[[Tensor], Tensor] | None = None
    image_size: int | None = None
    differentiable: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def from_network(cls, network: AttributeNetwork) -> "AttributeReader":
        """The reader of an attribute network, which is put into eval mode."""
        network.eval().requires_grad_(False)
        device = next(network.parameters()).device

        def batched(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def run(images: Tensor) -> Tensor:
                with torch.inference_mode():
                    parts = [function(part.to(device)) for part in images.split(_BATCH)]
                    return torch.cat(parts).to(images.device)

            return run

        return cls(
            network.names,
            batched(network),
            batched(network.features),
            network.image_size,
            network,
        )

    @classmethod
    def from_segmenter(cls, segmenter: Segmenter) -> "AttributeReader":
        """The area and the side of every class of a segmenter.

        `window` is the fraction of the pixels of that class. `window_side` is their mean
        horizontal position, -1 at the left edge and 1 at the right, shrunk towards 0 where they
        are few. It is 0 where there are none, so that a vanishing class changes it without a jump.

        Gradients are those of the same sums over the segmenter's probabilities, where it has any.
        """
        count = len(segmenter.classes)
        names = (*segmenter.classes, *(f"{name}_side" for name in segmenter.classes))

        def read(images: Tensor) -> Tensor:
            labels = segmenter.labels(images)
            return _areas_and_sides(torch.stack([(labels == k).float() for k in range(count)], 1))

        probability = segmenter.probability
        differentiable = (
            None if probability is None else lambda images: _areas_and_sides(probability(images))
        )
        return cls(names, read, segmenter.features, differentiable=differentiable)

    def column(self, name: str) -> int:
        """The column of the attribute `name`.

        Raises:
            DissectError: there is no such attribute.
        """
        if name not in self.names:
            near = near_names(name, self.names)
            raise DissectError(f"unknown attribute {name!r}; known ones: {near}")
        return self.names.index(name)


def _areas_and_sides(masks: Tensor) -> Tensor:
    """The areas and sides (N, 2 K) of masks (N, K, H, W)."""
    areas = masks.mean((2, 3))
    across = torch.linspace(-1, 1, masks.shape[3]).to(masks)
    sides = (masks.mean(2) * across).mean(2) / (areas + _SIDE_FRACTION)
    return torch.cat([areas, sides], 1)
