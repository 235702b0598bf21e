"""Differentiable augmentation, so that a few hundred images can be trained on.

Zhao, Liu, Lin, Zhu and Han 2020, "Differentiable augmentation for data-efficient GAN training"
(arXiv 2006.10738): the discriminator sees real and generated images through the same random
changes, in its own step and in the generator's, and so cannot learn the few real ones by heart;
the generator is not taught to draw the changes, because the gradient goes through them.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dissect._utils.errors import DissectError

__all__ = ["AUGMENTATIONS", "augment", "augmentations"]

AUGMENTATIONS = ("colour", "translation", "cutout")
# As in the paper's appendix: an eighth of the side, and half of it.
_SHIFT, _HOLE = 1 / 8, 1 / 2


def augmentations(names: str) -> tuple[str, ...]:
    """The augmentations in `names`, such as `colour,cutout`, in the order in which they are done.

    Raises:
        DissectError: one that is unknown.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in AUGMENTATIONS:
            raise DissectError(
                f"unknown augmentation {name!r}: use {','.join(AUGMENTATIONS)} or some of them"
            )
    return tuple(name for name in AUGMENTATIONS if name in wanted)


def augment(
    images: Tensor,
    names: tuple[str, ...],
    key: tuple[int, ...],
    *,
    first: int = 0,
    total: int | None = None,
) -> Tensor:
    """`images` (N, C, H, W) changed by chance, each in its own way; gradients flow through.

    colour: brightness moved by up to 0.5, saturation times 0 to 2, contrast times 0.5 to 1.5.
    translation: by up to an eighth of the side, with 0 (mid-grey) where nothing was.
    cutout: a square of half the side set to 0.

    Args:
        images: in [-1, 1]; colour can carry values beyond.
        names: of `augmentations`.
        key: what chance is drawn from, such as (seed, step, 0): the same key, the same changes.
        first: where these images lie in a batch of `total`, of which other processes hold the
            rest; the changes are those that they would meet in the whole batch.
        total: None is len(images).
    """
    if not names:
        return images
    images = images.float()  # generated ones come in bfloat16 where the device computes in it
    n, _, height, width = images.shape
    whole = n if total is None else total
    random = np.random.default_rng(key)

    def draw(low: float, high: float) -> Tensor:
        values = random.uniform(low, high, whole)[first : first + n].astype(np.float32)
        return torch.from_numpy(values).to(images)[:, None, None, None]

    def draw_whole(low: int, high: int) -> Tensor:
        values = random.integers(low, high + 1, whole)[first : first + n]
        return torch.from_numpy(values).to(images.device)[:, None, None, None]

    if "colour" in names:
        images = images + draw(-0.5, 0.5)
        grey = images.mean(1, keepdim=True)
        images = torch.lerp(grey, images, draw(0, 2))
        middle = images.mean((1, 2, 3), keepdim=True)
        images = torch.lerp(middle, images, draw(0.5, 1.5))
    rows = torch.arange(height, device=images.device)[None, None, :, None]
    columns = torch.arange(width, device=images.device)[None, None, None, :]
    if "translation" in names:
        down, right = round(height * _SHIFT), round(width * _SHIFT)
        padded = functional.pad(images, (right, right, down, down))
        from_rows = (rows + draw_whole(0, 2 * down)).flatten(1)
        from_columns = (columns + draw_whole(0, 2 * right)).flatten(1)
        index = torch.arange(n, device=images.device)
        # Channels go last and come back, so that each is moved with its pixel.
        images = padded.permute(0, 2, 3, 1)[
            index[:, None, None], from_rows[:, :, None], from_columns[:, None, :]
        ].permute(0, 3, 1, 2)
    if "cutout" in names:
        tall, wide = round(height * _HOLE), round(width * _HOLE)
        # The square's middle is anywhere, so that it may hang over the edge.
        top = draw_whole(0, height - tall % 2) - tall // 2
        left = draw_whole(0, width - wide % 2) - wide // 2
        hole = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
        images = images.masked_fill(hole, 0)
    return images
