"""An auxiliary task for the discriminator: which two of many views show the same real image?

Chen, Kornblith, Norouzi and Hinton 2020, "A simple framework for contrastive learning of visual
representations" (arXiv 2002.05709), on a GAN's discriminator as Jeong and Shin 2021 have it,
"Training GANs with stronger augmentations via contrastive discriminator" (arXiv 2103.09742), but
for real images alone, beside the game and not in its place. Who is to know an image again that was
cropped, mirrored and coloured anew must know what is on it.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ["match", "other_views", "views"]

# The views are those of SimCLR, appendix A; crops are not as small, for images of 32 pixels.
_AREA, _LOG_SHAPE = (0.25, 1.0), (math.log(3 / 4), math.log(4 / 3))
_COLOURED, _GREY, _STRENGTH = 0.8, 0.2, 0.4
_TEMPERATURE = 0.2


def views(images: Tensor, key: tuple[int, ...]) -> Tensor:
    """Two views of each of `images` (N, C, S, S): (2 N, C, S, S), the first ones first.

    A view is a part of a quarter of the area to all of it, at full size, by chance mirrored, with
    another brightness, contrast and saturation, or without colour.

    Args:
        images: in [-1, 1]; the views are, too.
        key: what chance is drawn from: the same key, the same views.
    """
    random = np.random.default_rng(key)
    x = torch.cat([images, images]).float()
    n = len(x)

    def share(probability: float) -> NDArray[np.bool_]:
        return random.uniform(size=n) < probability

    def each(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(x)[:, None, None, None]

    area, shape = random.uniform(*_AREA, n), np.exp(random.uniform(*_LOG_SHAPE, n))
    wide, tall = np.minimum(np.sqrt(area * shape), 1), np.minimum(np.sqrt(area / shape), 1)
    right, down = (random.uniform(side - 1, 1 - side) for side in (wide, tall))
    wide = np.where(share(0.5), -wide, wide)
    nought = np.zeros(n)
    places = np.stack([wide, nought, right, nought, tall, down], 1).reshape(n, 2, 3)
    grid = functional.affine_grid(
        torch.from_numpy(places.astype(np.float32)).to(x.device), list(x.shape), align_corners=False
    )
    x = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    coloured = share(_COLOURED)
    brighter, steeper, richer = (
        each(np.where(coloured, random.uniform(1 - _STRENGTH, 1 + _STRENGTH, n), 1.0))
        for _ in range(3)
    )
    richer = richer * each(np.where(share(_GREY), 0.0, 1.0))
    x = (x + 1) * brighter - 1
    middle = x.mean((1, 2, 3), keepdim=True)
    x = torch.lerp(middle, x, steeper)
    x = torch.lerp(x.mean(1, keepdim=True), x, richer)
    return x.clamp(-1, 1)


def other_views(n: int, device: torch.device) -> Tensor:
    """Where the other view of each of the `views` of `n` images is, int64 (2 n,)."""
    return torch.arange(2 * n, device=device).roll(n)


def match(read: Tensor) -> Tensor:
    """Logits of each view's other one being the k-th of them, (2 N, 2 N); itself it cannot be.

    Their cross entropy with `other_views` is SimCLR's loss (equation 1): what was read of the two
    views of an image is to point one way, and of other images other ways.

    Args:
        read: float32 (2 N, D), of the `views`.
    """
    unit = functional.normalize(read, dim=1)
    alike = unit @ unit.t() / _TEMPERATURE
    itself = torch.eye(len(read), dtype=torch.bool, device=read.device)
    return alike.masked_fill(itself, float("-inf"))
