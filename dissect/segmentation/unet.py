"""A small U-Net from images to the class of every pixel, and its file."""

import json
from collections.abc import Sequence
from importlib.resources import files as package_files
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dissect._utils.errors import DissectError
from dissect._utils.io import halved, read_tensors, write_tensors
from dissect.models.batch_norm import fold_batch_norm

__all__ = ["UNet", "bundled_unet", "load_unet", "save_unet"]

_FORMAT = "dissect-segmenter-1"


class UNet(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to logits (N, len(classes), H, W).

    After Ronneberger et al. (2015): blocks of two 3x3 convolutions with batch norm, halved by max
    pooling on the way down and doubled on the way up. On the way up, a 1x1 convolution brings each
    grid to the width of the block on the same grid; the two are added and convolved once. That is
    half the work of concatenating them, and as accurate. The network works on squares of 2x2
    pixels (Shi et al. 2016): a quarter of the positions and four times the channels at both ends,
    and every pixel keeps its own logits.

    Args:
        classes: the names of the classes, in the order of the logits.
        widths: channels of the blocks on the way down.
        region_classes: those classes of which a connected region has only one, such as a window
            or a picture on a wall; see `dissect.segmentation.regions`. () applies no such rule.

    Raises:
        DissectError: no classes, fewer than two widths, or a region class that is no class.
    """

    def __init__(
        self,
        classes: Sequence[str],
        widths: Sequence[int] = (40, 80, 160),
        region_classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not classes or len(widths) < 2 or min(widths) < 1:
            raise DissectError("a segmenter needs classes and at least two widths of at least 1")
        if unknown := set(region_classes) - set(classes):
            raise DissectError(f"region classes must be classes: {', '.join(sorted(unknown))}")
        self.classes = tuple(classes)
        self.widths = tuple(widths)
        self.region_classes = tuple(region_classes)
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
        """Images are extended at the right and below to multiples of this number of pixels."""
        return int(2 ** len(self.widths))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every pixel."""
        skips = self._encode(images)
        x = skips.pop()
        for narrow, block in zip(self.narrow, self.up, strict=True):
            x = block(self.grow(narrow(x)) + skips.pop())
        logits: Tensor = self.join(self.classify(x))
        return logits[:, :, : images.shape[2], : images.shape[3]]

    def features(self, images: Tensor) -> Tensor:
        """The output of the narrowest block, averaged over positions: (N, widths[-1]).

        Images can be compared in this space, for example by the Fréchet distance.
        """
        return self._encode(images)[-1].mean((2, 3))

    def folded(self) -> "UNet":
        """A copy in eval mode with each batch norm folded into its convolution.

        It computes the same function, faster. Its parameters take no gradients; images do.
        """
        return fold_batch_norm(self)

    def _encode(self, images: Tensor) -> list[Tensor]:
        if images.ndim != 4 or images.shape[1] != 3:
            raise DissectError(
                f"the segmenter takes images (N, 3, H, W), not {tuple(images.shape)}"
            )
        below, right = -images.shape[2] % self.step, -images.shape[3] % self.step
        if below or right:
            images = functional.pad(images, (0, right, 0, below), mode="replicate")
        grids: list[Tensor] = []
        x = self.split(images)
        for block in self.down:
            x = block(self.pool(x) if grids else x)
            grids.append(x)
        return grids


def _block(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def save_unet(path: str | Path, network: UNet, *, card: dict[str, Any], half: bool = True) -> Path:
    """`path`, now holding the network as safetensors, in float16 if `half`.

    Args:
        path: the file.
        network: its classes, widths and region classes are saved with its weights.
        card: how it was trained; plain values, for JSON.
        half: store weights in float16, running variances in float32.
    """
    tensors = network.state_dict()
    if half:
        tensors = halved(tensors, lambda name: name.endswith("running_var"))
    metadata = {
        "format": _FORMAT,
        "classes": json.dumps(network.classes),
        "widths": json.dumps(network.widths),
        "region_classes": json.dumps(network.region_classes),
        "card": json.dumps(card),
    }
    return write_tensors(path, tensors, metadata)


def bundled_unet() -> Path:
    """The file of the bundled segmenter, trained on rendered bedrooms."""
    return Path(str(package_files("dissect.segmentation") / "weights" / "bedrooms.safetensors"))


def load_unet(
    path: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> tuple[UNet, dict[str, Any]]:
    """The network that `path` holds, in eval mode, and its card; None is the bundled one.

    Raises:
        DissectError: the file is absent, damaged, or no segmenter.
    """
    file = bundled_unet() if path is None else Path(path)
    if not file.exists():
        raise DissectError(f"no such segmenter: {file} (a file, or transformers:NAME)")
    tensors, metadata = read_tensors(file)
    if metadata.get("format") != _FORMAT:
        raise DissectError(f"{file} is not a segmenter of dissect")
    try:
        network = UNet(
            json.loads(metadata["classes"]),
            json.loads(metadata["widths"]),
            json.loads(metadata.get("region_classes", "[]")),
        )
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
        card: dict[str, Any] = json.loads(metadata["card"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DissectError(f"{file} is damaged or no segmenter of dissect") from error
    return network.eval().to(device), card
