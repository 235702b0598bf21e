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

from dissect._utils.distributed import World

__all__ = ["contrast_loss", "other_views", "views"]

# The views are those of SimCLR, appendix A; crops are not as small, for images of 32 pixels.
_AREA, _LOG_SHAPE = (0.25, 1.0), (math.log(3 / 4), math.log(4 / 3))
_COLOURED, _GREY, _STRENGTH = 0.8, 0.2, 0.4
_TEMPERATURE = 0.2


def views(
    images: Tensor, key: tuple[int, ...], *, first: int = 0, total: int | None = None
) -> Tensor:
    """Two views of each of `images` (N, C, S, S): (2 N, C, S, S), the first ones first.

    A view is a part of a quarter of the area to all of it, at full size, by chance mirrored, with
    another brightness, contrast and saturation, or without colour.

    Args:
        images: in [-1, 1]; the views are, too.
        key: what chance is drawn from: the same key, the same views.
        first: where these images lie in a batch of `total`, of which other processes hold the
            rest; the views are those that the whole batch would give of them.
        total: None is N.
    """
    random = np.random.default_rng(key)
    x = torch.cat([images, images]).float()
    whole = len(images) if total is None else total
    n = 2 * whole
    here = np.arange(first, first + len(images))
    rows = np.concatenate([here, whole + here])

    def share(probability: float) -> NDArray[np.bool_]:
        return random.uniform(size=n) < probability

    def each(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values[rows].astype(np.float32)).to(x)[:, None, None, None]

    area, shape = random.uniform(*_AREA, n), np.exp(random.uniform(*_LOG_SHAPE, n))
    wide, tall = np.minimum(np.sqrt(area * shape), 1), np.minimum(np.sqrt(area / shape), 1)
    right, down = (random.uniform(side - 1, 1 - side) for side in (wide, tall))
    wide = np.where(share(0.5), -wide, wide)
    nought = np.zeros(n)
    affine = np.stack([wide, nought, right, nought, tall, down], 1).reshape(n, 2, 3)
    places = torch.from_numpy(affine[rows].astype(np.float32)).to(x.device)
    grid = functional.affine_grid(places, list(x.shape), align_corners=False)
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


def _match(read: Tensor) -> Tensor:
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


def contrast_loss(read: Tensor, right: Tensor, world: World) -> Tensor:
    """SimCLR's loss over the views of the whole batch, of which each process has read its share.

    The gradients' mean over the processes is that of one process that reads everything: here the
    others' views are constants, so that each process's gradient is its own share of the whole.

    Args:
        read: float32 (2 N, D), of this process's `views`.
        right: `other_views` of the whole batch.
        world: the processes, all of which call this.
    """
    everyone = list(world.exchanged(read.detach()))
    everyone[world.rank] = read
    # Of each process first views and second ones; of all of them first views come first.
    halves = zip(*(one.chunk(2) for one in everyone), strict=True)
    whole = torch.cat([one for half in halves for one in half])
    return world.size * functional.cross_entropy(_match(whole), right)
