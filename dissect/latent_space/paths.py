"""Paths between latents, and how evenly their images change along them."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.result import Result
from dissect.data import ImageSource

__all__ = [
    "Path",
    "StepSizes",
    "crossfade_rows",
    "interpolate",
    "interpolation_rows",
    "nearest_images",
    "step_sizes",
]

Path = Literal["linear", "spherical"]

_BATCH = 500


def interpolate(first: Tensor, last: Tensor, n: int, path: Path = "linear") -> Tensor:
    """`n` latents from `first` to `last`, both included: (n, D) for ends of shape (D,).

    The paper's path is linear. A spherical one follows the great circle through the directions of
    its ends while its length changes evenly, so that its middle is no shorter than its ends.
    Nearly all of the mass of many independent components lies far from the origin (White 2016).

    Raises:
        DissectError: fewer than 2 latents, ends of different shapes, or an unknown path.

    >>> interpolate(torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0]), 3).tolist()
    [[0.0, 2.0], [2.0, 1.0], [4.0, 0.0]]
    """
    if n < 2 or first.ndim != 1 or first.shape != last.shape:
        raise DissectError(f"a path needs two latents of one shape and n of at least 2; got n={n}")
    if path not in get_args(Path):
        raise DissectError(f"unknown path {path!r}: use linear or spherical")
    fraction = torch.linspace(0, 1, n, dtype=first.dtype, device=first.device)[:, None]
    straight: Tensor = first + fraction * (last - first)
    straight[-1] = last  # exactly, without rounding
    if path == "linear":
        return straight
    lengths = first.norm(), last.norm()
    a, b = first / lengths[0].clamp(min=1e-12), last / lengths[1].clamp(min=1e-12)
    angle = torch.arccos((a @ b).clamp(-1, 1))
    if angle.sin() < 1e-4:  # equal or opposite directions have no unique great circle
        return straight
    curved: Tensor = (
        torch.sin((1 - fraction) * angle) * a + torch.sin(fraction * angle) * b
    ) / angle.sin()
    curved = curved * (lengths[0] + fraction * (lengths[1] - lengths[0]))
    curved[0], curved[-1] = first, last
    return curved


def interpolation_rows(points: Tensor, n: int, path: Path = "linear") -> Tensor:
    """Rows of `n` latents from each of a series of points to the next: (P - 1, n, D).

    Figure 4 of Radford et al. (2015), section 6.1, draws such rows through 9 random points.

    Args:
        points: (P, D), P at least 2.
        n: latents in a row, both ends included.
        path: linear or spherical.

    Raises:
        DissectError: fewer than 2 points, or what `between` refuses.
    """
    if points.ndim != 2 or len(points) < 2:
        raise DissectError(f"a walk needs points (P, D), P at least 2; got {tuple(points.shape)}")
    return torch.stack([interpolate(a, b, n, path) for a, b in pairwise(points)])


@dataclass(frozen=True, repr=False)
class StepSizes(Result):
    """How unevenly the images of a walk change, row by row.

    A generator that has memorised its images shows one of them and then jumps to the next; one
    that has not changes a little at every step (Radford et al. 2015, section 6.1).

    Attributes:
        mean: mean distance between neighbours, for each row.
        largest: largest distance between neighbours, for each row.
    """

    mean: tuple[float, ...]
    largest: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """The largest step over the mean one, for each row: 1 is perfectly even."""
        return tuple(b / a if a > 0 else 1.0 for a, b in zip(self.mean, self.largest, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the rows' ratios."""
        return float(torch.tensor(self.ratios).median())

    def summary(self) -> dict[str, float]:
        """The ratio, and both steps averaged over rows."""
        n = len(self.mean)
        return {
            "ratio": round(self.ratio, 4),
            "mean": sum(self.mean) / n,
            "largest": sum(self.largest) / n,
        }


def step_sizes(values: Tensor) -> StepSizes:
    """Root mean square differences between neighbours of `values` (rows, n, ...)."""
    flat = values.flatten(2).double()
    steps = (flat[:, 1:] - flat[:, :-1]).square().mean(2).sqrt()
    return StepSizes(tuple(steps.mean(1).tolist()), tuple(steps.max(1).values.tolist()))


def nearest_images(images: Tensor, source: ImageSource, n: int) -> Tensor:
    """For each image (N, 3, H, W), the nearest of the source's first `n`, by pixel distance.

    They turn a walk into the walk of a generator that has memorised its training images: it
    stands still, then jumps. This is the control of a walk.
    """
    flat = images.flatten(1)
    smallest = torch.full((len(flat),), float("inf"))
    nearest = torch.empty_like(flat)
    for first in range(0, n, _BATCH):
        known = to_tensor(source.images(range(first, min(first + _BATCH, n)))).flatten(1)
        distance, index = torch.cdist(flat, known).min(1)
        closer = distance < smallest
        smallest[closer] = distance[closer]
        nearest[closer] = known[index[closer]]
    return nearest.reshape(images.shape)


def crossfade_rows(ends: Tensor, n: int) -> Tensor:
    """Rows of `n` images faded from one to another: (rows, n, C, H, W) for ends (rows, 2, C, H, W).

    A straight line in pixel space is perfectly even, but its middle is no natural image.
    """
    fraction = torch.linspace(0, 1, n)[None, :, None, None, None]
    faded: Tensor = ends[:, :1] + fraction * (ends[:, 1:] - ends[:, :1])
    return faded
