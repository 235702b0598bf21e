"""Walks as a generator that has memorised its images would show them: the control."""

import torch
from torch import Tensor

from dissect._utils.images import to_tensor
from dissect.data import ImageSource

__all__ = ["crossfades", "nearest"]

_BATCH = 500


def nearest(images: Tensor, source: ImageSource, n: int) -> Tensor:
    """For each image (N, 3, H, W), the one of the source's first `n` with the least pixel distance.

    Put in the place of a walk's frames they make the walk of a generator that knows its images by
    heart: it stands still, then jumps.
    """
    flat = images.flatten(1)
    best = torch.full((len(flat),), float("inf"))
    found = torch.empty_like(flat)
    for first in range(0, n, _BATCH):
        known = to_tensor(source.images(range(first, min(first + _BATCH, n)))).flatten(1)
        distance, place = torch.cdist(flat, known).min(1)
        closer = distance < best
        best[closer] = distance[closer]
        found[closer] = known[place[closer]]
    return found.reshape(images.shape)


def crossfades(ends: Tensor, n: int) -> Tensor:
    """Rows of `n` images faded from one to another: (rows, n, C, H, W) for ends (rows, 2, C, H, W).

    The straight line in pixel space: perfectly even there, and no picture of a room on the way.
    """
    share = torch.linspace(0, 1, n)[None, :, None, None, None]
    faded: Tensor = ends[:, :1] + share * (ends[:, 1:] - ends[:, :1])
    return faded
