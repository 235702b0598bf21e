"""What the measurements read faces with: a function from images to named attributes."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.io import read_tensors, write_tensors
from dissect._utils.schema import near_names
from dissect.segmentation.attribute_network import AttributeNetwork

__all__ = ["AttributeReader", "load_attributes", "save_attributes"]

_FORMAT = "dissect-attributes-1"
_BATCH = 128


@dataclass(frozen=True)
class AttributeReader:
    """Images to attributes; any callable can be one.

    Attributes:
        names: in the order of the columns.
        read: images (N, 3, H, W) in [-1, 1] to attributes (N, len(names)), float32.
        features: images to (N, F), a space in which images are compared; None where there is none.
        image_size: side of the images that it reads; None takes any.
        slopes_through: what `read` computes, or comes near to, as a function that can be
            differentiated; None where there is none.
    """

    names: tuple[str, ...]
    read: Callable[[Tensor], Tensor]
    features: Callable[[Tensor], Tensor] | None = None
    image_size: int | None = None
    slopes_through: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def of(cls, network: AttributeNetwork) -> "AttributeReader":
        """The reader that an attribute network is."""
        network.eval().requires_grad_(False)
        place = next(network.parameters()).device

        def batched(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def run(images: Tensor) -> Tensor:
                with torch.inference_mode():
                    parts = [function(part.to(place)) for part in images.split(_BATCH)]
                    return torch.cat(parts).to(images.device)

            return run

        return cls(
            network.names,
            batched(network),
            batched(network.features),
            network.image_size,
            network,
        )

    def number(self, name: str) -> int:
        """The column of the attribute `name`.

        Raises:
            DissectError: there is no such attribute.
        """
        if name not in self.names:
            near = near_names(name, self.names)
            raise DissectError(f"unknown attribute {name!r}; known ones: {near}")
        return self.names.index(name)


def save_attributes(path: str | Path, network: AttributeNetwork, *, card: dict[str, Any]) -> Path:
    """`path`, now holding the network as safetensors in float16, variances in float32."""
    tensors = {}
    for name, value in network.state_dict().items():
        kept = value.detach()
        if kept.is_floating_point() and not name.endswith(("running_var", "mean", "spread")):
            kept = kept.half()
        tensors[name] = kept
    about = {
        "format": _FORMAT,
        "names": json.dumps(network.names),
        "config": json.dumps([network.image_size, list(network.widths), network.hidden]),
        "card": json.dumps(card),
    }
    return write_tensors(path, tensors, about)


def load_attributes(
    path: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> tuple[AttributeNetwork, dict[str, Any]]:
    """The network that `path` holds, in eval mode, and its card; None is the bundled one of faces.

    Raises:
        DissectError: the file is absent, damaged, or no attribute network.
    """
    file = Path(
        str(package_files("dissect.segmentation") / "weights" / "faces-attributes.safetensors")
    )
    if path is not None:
        file = Path(path)
    tensors, about = read_tensors(file)
    if about.get("format") != _FORMAT:
        raise DissectError(f"{file} is not an attribute network of dissect")
    try:
        image_size, widths, hidden = json.loads(about["config"])
        network = AttributeNetwork(json.loads(about["names"]), image_size, widths, hidden)
        network.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        )
        card: dict[str, Any] = json.loads(about["card"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DissectError(f"{file} is damaged or no attribute network of dissect") from error
    return network.eval().to(device), card
