"""Resizing and normalisation of images, as the settings of a foreign network ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.text import finite

__all__ = ["Preprocessing"]


@dataclass(frozen=True, repr=False)
class Preprocessing(ShortRepr):
    """An image processor of the transformers library, in torch and with gradients.

    Attributes:
        mean, std: of each channel.
        scale: the largest value of a pixel before normalisation.
        size: (height, width) to resize to, or the length of the shorter side; None keeps the size.
        reversed_channels: whether blue comes first.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    scale: float = 1.0
    size: tuple[int, int] | int | None = None
    reversed_channels: bool = False

    @classmethod
    def from_processor(cls, processor: Any) -> "Preprocessing":
        """From an image processor, or its settings as `preprocessor_config.json` holds them.

        Raises:
            DissectError: settings that cannot be used.
        """
        settings = processor.to_dict() if hasattr(processor, "to_dict") else processor
        if not isinstance(settings, Mapping):
            raise DissectError("a processor is an image processor or a mapping of its settings")
        normalised = settings.get("do_normalize", "image_mean" in settings)
        scale = 255.0
        if settings.get("do_rescale", True):
            scale *= _number(settings, "rescale_factor", 1 / 255)
        return cls(
            _channels(settings, "image_mean") if normalised else cls.mean,
            _channels(settings, "image_std") if normalised else cls.std,
            scale,
            _size(settings),
            bool(settings.get("do_flip_channel_order", False)),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1], resized and normalised."""
        x = (images + 1) * (self.scale / 2)
        size = self.size
        if isinstance(size, int):
            height, width = images.shape[2:]
            ratio = size / min(height, width)
            size = (round(height * ratio), round(width * ratio))
        if size is not None and size != tuple(images.shape[2:]):
            x = functional.interpolate(
                x, size, mode="bilinear", align_corners=False, antialias=True
            )
        mean = torch.tensor(self.mean, device=x.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(1, 3, 1, 1)
        x = (x - mean) / std
        return x.flip(1) if self.reversed_channels else x


def _size(settings: Mapping[str, Any]) -> tuple[int, int] | int | None:
    # A centre crop would leave the border without a class: the whole image is resized instead.
    cropped = settings.get("do_center_crop") and settings.get("crop_size")
    size = settings.get("crop_size" if cropped else "size")
    if size is None or not (cropped or settings.get("do_resize", True)):
        return None
    if isinstance(size, Mapping):
        sides = [size.get(key) for key in ("height", "width")]
        size = size.get("shortest_edge") if None in sides else sides
    lengths = [size] if isinstance(size, int) else size
    if (
        not isinstance(lengths, (list, tuple))
        or len(lengths) not in (1, 2)
        or not all(isinstance(side, int) and side > 0 for side in lengths)
    ):
        raise DissectError(f"the processor's size is not one that dissect knows: {size!r}")
    return lengths[0] if len(lengths) == 1 else (lengths[0], lengths[1])


def _channels(settings: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    values = settings.get(key)
    numbers = [finite(value) for value in values] if isinstance(values, (list, tuple)) else []
    channels = [value for value in numbers if value is not None]
    if len(channels) != 3 or len(numbers) != 3:
        raise DissectError(f"the processor's {key} must be three numbers, not {values!r}")
    return (channels[0], channels[1], channels[2])


def _number(settings: Mapping[str, Any], key: str, default: float) -> float:
    value = finite(settings.get(key, default))
    if value is None:
        raise DissectError(f"the processor's {key} must be a number, not {settings[key]!r}")
    return value
