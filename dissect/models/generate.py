"""From latents to images."""

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.models.latents import latents_for

__all__ = ["generate"]


def generate(
    model: nn.Module, n: int, seed: int = 0, *, start: int = 0, batch_size: int = 100
) -> Tensor:
    """The images (n, channels, H, W) that `model` makes of its latents `start` to `start` + n.

    Raises:
        DissectError: the model does not say which latents it takes, or makes no image.
    """
    made = []
    with torch.inference_mode():
        for first in range(0, n, batch_size):
            z = latents_for(model, min(batch_size, n - first), seed, start=start + first)
            images = model(z)
            if not isinstance(images, Tensor) or images.ndim != 4:
                raise DissectError(
                    f"{type(model).__name__} makes no image: it must return a tensor (N, C, H, W)"
                )
            made.append(images)
    return torch.cat(made)
