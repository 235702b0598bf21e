"""Paths between latents, and how evenly what they show changes."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from dissect._utils.errors import DissectError

__all__ = ["Path", "StepSizes", "between", "step_sizes", "walk_rows"]

Path = Literal["linear", "spherical"]


def between(first: Tensor, last: Tensor, n: int, path: Path = "linear") -> Tensor:
    """`n` latents from `first` to `last`, both included: (n, D) for ends of shape (D,).

    A linear path is the paper's. A spherical one goes along the great circle through the ends'
    directions, its length changing evenly, so that its middle is no shorter than its ends: far
    from the origin lies nearly all of the mass of many independent components (White 2016).

    Raises:
        DissectError: fewer than 2 latents, ends of other shapes, or an unknown path.
    """
    if n < 2 or first.ndim != 1 or first.shape != last.shape:
        raise DissectError(f"a path needs two latents of one shape and n of at least 2; got n={n}")
    if path not in get_args(Path):
        raise DissectError(f"unknown path {path!r}: use linear or spherical")
    share = torch.linspace(0, 1, n, dtype=first.dtype, device=first.device)[:, None]
    straight: Tensor = first + share * (last - first)
    straight[-1] = last  # not but for rounding
    if path == "linear":
        return straight
    lengths = first.norm(), last.norm()
    a, b = first / lengths[0].clamp(min=1e-12), last / lengths[1].clamp(min=1e-12)
    angle = torch.arccos((a @ b).clamp(-1, 1))
    if angle.sin() < 1e-4:  # one direction, or opposite ones: no single great circle
        return straight
    turned: Tensor = (
        torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b
    ) / angle.sin()
    turned = turned * (lengths[0] + share * (lengths[1] - lengths[0]))
    turned[0], turned[-1] = first, last
    return turned


def walk_rows(points: Tensor, n: int, path: Path = "linear") -> Tensor:
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
    return torch.stack([between(a, b, n, path) for a, b in pairwise(points)])


@dataclass(frozen=True)
class StepSizes:
    """How unevenly the pictures of a walk change, row by row.

    A generator that has memorised its images shows one of them, then jumps to the next; one that
    has not changes a little at every step (Radford et al. 2015, section 6.1).

    Attributes:
        mean: mean distance between neighbours, for each row.
        largest: the largest one, for each row.
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


def step_sizes(values: Tensor) -> StepSizes:
    """Steps between neighbours of `values` (rows, n, ...): root mean squares."""
    flat = values.flatten(2).double()
    steps = (flat[:, 1:] - flat[:, :-1]).square().mean(2).sqrt()
    return StepSizes(tuple(steps.mean(1).tolist()), tuple(steps.max(1).values.tolist()))
