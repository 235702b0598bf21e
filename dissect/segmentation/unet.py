"""A small U-Net from images to the class of every pixel."""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dissect._utils.errors import DissectError

__all__ = ["UNet"]


class UNet(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to logits (N, len(classes), H, W).

    After Ronneberger et al. (2015): blocks of two 3x3 convolutions with batch norm, halved with
    max pooling on the way down, doubled on the way up. There each grid is brought to the width of
    the block of the same grid by a 1x1 convolution, added to it, and convolved once: half the
    work of joining the two, and as good. It works on squares of 2x2 pixels (Shi et al. 2016): a
    quarter of the positions, four times the channels at either end, and every pixel still has
    logits of its own.

    Args:
        classes: what a pixel can be, in the order of the logits.
        widths: channels of the blocks on the way down.

    Raises:
        DissectError: no classes, or fewer than two widths.
    """

    def __init__(self, classes: Sequence[str], widths: Sequence[int] = (40, 80, 160)) -> None:
        super().__init__()
        if not classes or len(widths) < 2 or min(widths) < 1:
            raise DissectError("a segmenter needs classes and at least two widths of at least 1")
        self.classes = tuple(classes)
        self.widths = tuple(widths)
        befores = (12, *widths[:-1])
        self.down = nn.ModuleList(
            _block(before, after, after) for before, after in zip(befores, widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(low, same, 1) for low, same in pairs)
        self.up = nn.ModuleList(_block(same, same) for _, same in pairs)
        self.split = nn.PixelUnshuffle(2)
        self.join = nn.PixelShuffle(2)
        self.classify = nn.Conv2d(widths[0], 4 * len(classes), 1)

    @property
    def step(self) -> int:
        """Sides of the images must be multiples of it."""
        return int(2 ** len(self.widths))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every pixel."""
        skips = self._encode(images)
        x = skips.pop()
        for narrow, block in zip(self.narrow, self.up, strict=True):
            x = block(self.grow(narrow(x)) + skips.pop())
        logits: Tensor = self.join(self.classify(x))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """What the narrowest block sees, averaged over positions: (N, widths[-1]).

        A space in which images can be compared, as the Fréchet distance does.
        """
        return self._encode(images)[-1].mean((2, 3))

    def folded(self) -> "UNet":
        """A copy in eval mode whose batch norms are part of the convolutions: faster, the same.

        Its parameters take no gradients; images do.
        """
        twin = copy.deepcopy(self).eval().requires_grad_(False)
        for blocks in (twin.down, twin.up):
            for place, block in enumerate(blocks):
                blocks[place] = _folded(cast(nn.Sequential, block))
        return twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def _encode(self, images: Tensor) -> list[Tensor]:
        if images.ndim != 4 or images.shape[2] % self.step or images.shape[3] % self.step:
            raise DissectError(
                f"the segmenter takes images (N, 3, H, W) whose sides are multiples of "
                f"{self.step}; got {tuple(images.shape)}"
            )
        found: list[Tensor] = []
        x = self.split(images)
        for block in self.down:
            x = block(self.pool(x) if found else x)
            found.append(x)
        return found


def _block(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _folded(block: nn.Sequential) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in block:
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(cast(nn.Conv2d, layers[-1]), layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)
