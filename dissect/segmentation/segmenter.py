"""What the measurements take for eyes: a function from images to concept masks."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.io import read_tensors, write_tensors
from dissect._utils.schema import near_names
from dissect.segmentation.regions import hung_classes, one_class_each
from dissect.segmentation.unet import UNet

__all__ = ["Segmenter", "bundled_segmenter", "load_segmenter", "save_segmenter"]

_FORMAT = "dissect-segmenter-1"
_BATCH = 64


@dataclass(frozen=True)
class Segmenter:
    """Images to the class of every pixel; any callable can be one.

    Attributes:
        classes: names, in the order of the numbers that `label` gives.
        label: images (N, 3, H, W) in [-1, 1] to class numbers (N, H, W), int64.
        probability: images to (N, K, H, W) in [0, 1], with gradients; None where there is none.
            Rules that follow gradients need it.
        features: images to (N, F), a space in which samples are compared; None where there is
            none.
        source: the renders that it learned from, such as `bedrooms`; None where there are none.
    """

    classes: tuple[str, ...]
    label: Callable[[Tensor], Tensor]
    probability: Callable[[Tensor], Tensor] | None = None
    features: Callable[[Tensor], Tensor] | None = None
    source: str | None = None

    @classmethod
    def of(cls, network: UNet, source: str | None = None) -> "Segmenter":
        """The segmenter that a U-Net of ours is, as it now is: later training changes nothing.

        Each window, picture or mirror is labelled as a whole: see `one_class_each`.
        """
        network = network.folded()
        device = next(network.parameters()).device
        things = hung_classes(network.classes)

        def label(images: Tensor) -> Tensor:
            with torch.inference_mode():
                parts = []
                for part in images.split(_BATCH):
                    logits = network(part.to(device))
                    chances = torch.softmax(logits, 1)[:, things]
                    whole = one_class_each(logits.argmax(1), chances, things)
                    parts.append(whole.to(images.device))
            return torch.cat(parts)

        def features(images: Tensor) -> Tensor:
            with torch.inference_mode():
                parts = [
                    network.features(part.to(device)).to(images.device)
                    for part in images.split(_BATCH)
                ]
            return torch.cat(parts)

        def probability(images: Tensor) -> Tensor:
            return torch.softmax(network(images), 1)

        return cls(network.classes, label, probability, features, source)

    def number(self, concept: str) -> int:
        """The number of the class `concept`.

        Raises:
            DissectError: the segmenter does not know it.
        """
        if concept not in self.classes:
            near = near_names(concept, self.classes)
            raise DissectError(f"the segmenter does not know {concept!r}; it knows: {near}")
        return self.classes.index(concept)

    def labels(self, images: Tensor) -> Tensor:
        """The class of every pixel, (N, H, W) int64.

        Raises:
            DissectError: the callable gives another shape, or numbers without a name.
        """
        found = self.label(images)
        wanted = (images.shape[0], *images.shape[2:])
        if tuple(found.shape) != wanted or found.is_floating_point():
            raise DissectError(
                f"the segmenter must give whole numbers of shape {wanted}, one a pixel; it gave "
                f"{found.dtype} {tuple(found.shape)}"
            )
        if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < len(self.classes):
            raise DissectError(
                f"the segmenter gave class {int(found.max())}, and has {len(self.classes)} names"
            )
        return found.long()


def save_segmenter(
    path: str | Path, network: UNet, *, card: dict[str, Any], half: bool = True
) -> Path:
    """`path`, now holding the network as safetensors, in float16 if `half`."""
    tensors = {}
    for name, value in network.state_dict().items():
        kept = value.detach()
        if half and kept.is_floating_point() and not name.endswith("running_var"):
            kept = kept.half()
        tensors[name] = kept
    about = {
        "format": _FORMAT,
        "classes": json.dumps(network.classes),
        "widths": json.dumps(network.widths),
        "card": json.dumps(card),
    }
    return write_tensors(path, tensors, about)


def bundled_segmenter() -> Path:
    """The file of the segmenter that comes with the package, trained on rendered bedrooms."""
    return Path(str(package_files("dissect.segmentation") / "weights" / "bedrooms.safetensors"))


def load_segmenter(
    path: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> tuple[UNet, dict[str, Any]]:
    """The network that `path` holds, in eval mode, and its card; None is the bundled one.

    Raises:
        DissectError: the file is absent, damaged, or no segmenter.
    """
    file = bundled_segmenter() if path is None else Path(path)
    if not file.exists():
        raise DissectError(f"no such segmenter: {file} (a file, or transformers:NAME)")
    tensors, about = read_tensors(file)
    if about.get("format") != _FORMAT:
        raise DissectError(f"{file} is not a segmenter of dissect")
    try:
        widths: Sequence[int] = json.loads(about["widths"])
        network = UNet(json.loads(about["classes"]), widths)
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
        card: dict[str, Any] = json.loads(about["card"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DissectError(f"{file} is damaged or no segmenter of dissect") from error
    return network.eval().to(device), card
