"""A small convolutional network from images to the attributes of what they show."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError

__all__ = ["AttributeNetwork"]

_GRID = 4  # of the last convolution; where something lies tells how a head is turned


class AttributeNetwork(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to attributes (N, len(names)), each in its own unit.

    Strided 3x3 convolutions with batch norm and ReLU down to a 4x4 grid, one hidden layer, and a
    linear reading of it.

    Args:
        names: the attributes, in the order of the columns.
        image_size: side of the images, 8 times a power of two.
        widths: channels of the convolutions, one for each halving from `image_size` to 4.
        hidden: size of the hidden layer.

    Raises:
        DissectError: no names, or widths that do not reach the 4x4 grid.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        names: Sequence[str],
        image_size: int = 64,
        widths: Sequence[int] = (32, 64, 96, 128),
        hidden: int = 128,
    ) -> None:
        super().__init__()
        if not names or min(*widths, hidden) < 1 or image_size != _GRID * 2 ** len(widths):
            raise DissectError(
                f"an attribute network needs names, and widths that halve {image_size} pixels to "
                f"{_GRID}; got {len(names)} names and {len(widths)} widths"
            )
        self.names = tuple(names)
        self.image_size = image_size
        self.widths = tuple(widths)
        self.hidden = hidden
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            )
            for before, after in zip((3, *widths[:-1]), widths, strict=True)
        )
        self.gather = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * _GRID**2, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
        )
        self.read = nn.Linear(hidden, len(names))
        # The network learns attributes of mean 0 and deviation 1, and gives them in their units.
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("spread", torch.ones(len(names)))

    def forward(self, images: Tensor) -> Tensor:
        """Attributes of every image, in their units."""
        return self.standard(images) * self.spread + self.mean

    def standard(self, images: Tensor) -> Tensor:
        """Attributes less their mean, over their deviation: what training compares."""
        found: Tensor = self.read(self.gather(self._stages(images)[-1]))
        return found

    def features(self, images: Tensor) -> Tensor:
        """Mean and deviation over positions of every channel, and the hidden layer: (N, F).

        A space in which images are compared: the first layers see edges and textures, the last
        ones what the picture shows.
        """
        found = self._stages(images)
        parts = [self.gather(found[-1])]
        for stage in found:
            parts += [stage.mean((2, 3)), stage.std((2, 3))]
        return torch.cat(parts, 1)

    def _stages(self, images: Tensor) -> list[Tensor]:
        side = self.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, side, side):
            raise DissectError(
                f"attributes are read from images (N, 3, {side}, {side}); got {tuple(images.shape)}"
            )
        found: list[Tensor] = []
        for stage in self.stages:
            found.append(stage(found[-1] if found else images))
        return found
