"""A small convolutional network from images to the attributes that they show, and its file."""

import json
from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.io import halved, read_tensors, write_tensors

__all__ = [
    "AttributeNetwork",
    "bundled_attribute_network",
    "load_attribute_network",
    "save_attribute_network",
]

_FORMAT = "dissect-attributes-1"
_GRID = 4  # side of the last grid; positions are kept, since they show how a head is turned


class AttributeNetwork(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to attributes (N, len(names)), each in its own unit.

    Strided 3x3 convolutions with batch norm and ReLU down to a 4x4 grid, one hidden layer, and a
    linear layer on top of it.

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
        # The network learns attributes of mean 0 and std 1, and returns them in their own units.
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("spread", torch.ones(len(names)))

    def forward(self, images: Tensor) -> Tensor:
        """Attributes of every image, in their units."""
        return self.standard(images) * self.spread + self.mean

    def standard(self, images: Tensor) -> Tensor:
        """Attributes of mean 0 and std 1, as the training loss compares them."""
        values: Tensor = self.read(self.gather(self._stages(images)[-1]))
        return values

    def features(self, images: Tensor) -> Tensor:
        """The hidden layer, and every channel's mean and std over positions: (N, F).

        Images are compared in this space. The first layers respond to edges and textures, the
        last ones to the content of the image.
        """
        grids = self._stages(images)
        parts = [self.gather(grids[-1])]
        for grid in grids:
            parts += [grid.mean((2, 3)), grid.std((2, 3))]
        return torch.cat(parts, 1)

    def _stages(self, images: Tensor) -> list[Tensor]:
        side = self.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, side, side):
            raise DissectError(
                f"attributes are read from images (N, 3, {side}, {side}); got {tuple(images.shape)}"
            )
        grids: list[Tensor] = []
        for stage in self.stages:
            grids.append(stage(grids[-1] if grids else images))
        return grids


def save_attribute_network(
    path: str | Path, network: AttributeNetwork, *, card: dict[str, Any]
) -> Path:
    """`path`, now holding the network as safetensors in float16, statistics in float32.

    Args:
        path: the file.
        network: its names and sizes are saved with its weights.
        card: how it was trained; plain values, for JSON.
    """
    tensors = halved(
        network.state_dict(), lambda name: name.endswith(("running_var", "mean", "spread"))
    )
    metadata = {
        "format": _FORMAT,
        "names": json.dumps(network.names),
        "config": json.dumps([network.image_size, list(network.widths), network.hidden]),
        "card": json.dumps(card),
    }
    return write_tensors(path, tensors, metadata)


def bundled_attribute_network() -> Path:
    """The file of the bundled network, trained on rendered faces."""
    folder = package_files("dissect.segmentation") / "weights"
    return Path(str(folder / "faces-attributes.safetensors"))


def load_attribute_network(
    path: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> tuple[AttributeNetwork, dict[str, Any]]:
    """The network that `path` holds, in eval mode, and its card; None is the bundled one of faces.

    Raises:
        DissectError: the file is absent, damaged, or no attribute network.
    """
    file = bundled_attribute_network() if path is None else Path(path)
    tensors, metadata = read_tensors(file)
    if metadata.get("format") != _FORMAT:
        raise DissectError(f"{file} is not an attribute network of dissect")
    try:
        image_size, widths, hidden = json.loads(metadata["config"])
        network = AttributeNetwork(json.loads(metadata["names"]), image_size, widths, hidden)
        network.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        )
        card: dict[str, Any] = json.loads(metadata["card"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DissectError(f"{file} is damaged or no attribute network of dissect") from error
    return network.eval().to(device), card
