"""How cleanly an attribute follows a direction."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.result import Result
from dissect.latent_space.directions import Direction
from dissect.latent_space.readout import read_attributes
from dissect.segmentation import AttributeReader

__all__ = [
    "DirectionResult",
    "evaluate_direction",
    "random_direction_like",
    "readout_rows",
    "scale_to_effect",
    "score_direction",
]

_LENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
_MIN_SLOPE = 0.6  # at the ends, as a fraction of the slope in the middle
_MIN_RISING = 0.8  # fraction of the rows
_N_RANDOM = 3  # directions


@dataclass(frozen=True, repr=False)
class DirectionResult(Result):
    """An attribute along a direction, over many samples.

    Attributes:
        attribute: that should change.
        method: how the direction was found.
        length: of the vector from the middle to an end.
        r_squared: median over rows of the squared correlation of the attribute with the position.
        monotone: fraction of rows in which the attribute grows at every step.
        reach: mean of the attribute at the last position minus that at the first.
        drift: for each other attribute, mean absolute change from the middle to the ends, in stds
            of that attribute among ordinary samples.
        random_r_squared, random_monotone, random_drift: the same under random directions of the
            same length.
        random_reach: the mean absolute reach under them. R squared alone proves little, since an
            attribute that hardly changes may change evenly.
    """

    attribute: str
    method: str
    length: float
    r_squared: float
    monotone: float
    reach: float
    drift: dict[str, float]
    random_r_squared: float
    random_monotone: float
    random_reach: float
    random_drift: dict[str, float]

    @property
    def cleaner_than_random(self) -> bool:
        """Whether no other attribute drifts more than under a random direction."""
        return all(self.drift[name] <= self.random_drift[name] for name in self.drift)


def readout_rows(
    generator: nn.Module,
    reader: AttributeReader,
    z: Tensor,
    direction: Direction,
    positions: Tensor,
    *,
    symmetric: bool = False,
) -> Tensor:
    """Attributes (N, P, A) of latents (N, D) moved to each position along a direction."""
    moved = direction.applied(z, positions, symmetric=symmetric)
    values = read_attributes(generator, reader, moved.flatten(0, 1))
    return values.reshape(len(z), len(positions), -1)


def scale_to_effect(
    generator: nn.Module,
    reader: AttributeReader,
    z: Tensor,
    direction: Direction,
    *,
    symmetric: bool = False,
) -> Direction:
    """The direction, scaled to the largest length at which its attribute does not saturate.

    The attribute is read for `z` at eleven positions, for rising lengths. The largest length is
    chosen at which the slope of its mean curve at both ends is still 0.6 of that in the middle,
    and at which it rises at every step in 0.8 of the rows, since a sample near one end saturates
    sooner than the mean does. If the shortest length fails already, as for an attribute that
    changes by jumps, the direction is not scaled.
    """
    column = reader.column(direction.attribute)
    positions = torch.linspace(-1, 1, 11)
    chosen = direction
    for length in _LENGTHS:
        tried = direction.of_length(length)
        curve = readout_rows(generator, reader, z, tried, positions, symmetric=symmetric)
        steps = curve[:, :, column].diff(dim=1)
        mean = steps.mean(0)
        ends, middle = (mean[:2].mean(), mean[-2:].mean()), mean[3:7].mean()
        rising = (steps > 0).all(1).double().mean()
        if middle <= 0 or min(ends) < _MIN_SLOPE * middle or rising < _MIN_RISING:
            break
        chosen = tried
    return chosen


def random_direction_like(direction: Direction, n: int, seed: int = 0) -> tuple[Direction, ...]:
    """`n` random directions of the same length: the control."""
    random = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, len(direction.vector), generator=random)
    return tuple(
        Direction(v, direction.attribute, "random").of_length(direction.length) for v in vectors
    )


def evaluate_direction(
    generator: nn.Module,
    reader: AttributeReader,
    values: Tensor,
    direction: Direction,
    z: Tensor,
    spread: Tensor,
    *,
    symmetric: bool = False,
    seed: int = 0,
) -> DirectionResult:
    """Attributes along a direction, compared with random directions.

    Each of three random directions is applied to a third of the latents.

    Args:
        generator: latents to images.
        reader: of the attributes.
        values: attributes (N, P, A) at P positions from -1 to 1 along the direction.
        direction: that was applied.
        z: latents (N, D), N at least 3.
        spread: std (A,) of each attribute among ordinary samples.
        symmetric: as the direction was applied.
        seed: of the random directions.
    """
    positions = torch.linspace(-1, 1, values.shape[1])
    random = [
        readout_rows(generator, reader, z[index::_N_RANDOM], other, positions, symmetric=symmetric)
        for index, other in enumerate(random_direction_like(direction, _N_RANDOM, seed))
    ]
    return score_direction(values, positions, direction, reader, spread, random)


def score_direction(
    values: Tensor,
    positions: Tensor,
    direction: Direction,
    reader: AttributeReader,
    spread: Tensor,
    random: Sequence[Tensor],
) -> DirectionResult:
    """The result for attributes (N, P, A) along a direction (see `readout_rows`).

    Args:
        values: attributes at each position.
        positions: (P,), rising, the middle one 0.
        direction: that was applied.
        reader: of the attributes.
        spread: std (A,) of each attribute among ordinary samples.
        random: attributes (M, P, A) along each of the random directions, at least one.

    Raises:
        DissectError: fewer than three positions, or an even number of them.
    """
    if len(positions) < 3 or len(positions) % 2 == 0:
        raise DissectError("a turn is measured at an odd number of positions, at least 3")
    column = reader.column(direction.attribute)
    others = {name: k for k, name in enumerate(reader.names) if k != column}
    fit, monotone, reach = _fit_and_reach(values[:, :, column], positions)
    every = torch.cat(list(random))
    random_fit, random_monotone, _ = _fit_and_reach(every[:, :, column], positions)
    reaches = [abs(_fit_and_reach(each[:, :, column], positions)[2]) for each in random]
    drift, random_drift = (_drift(read) / spread.clamp(min=1e-9) for read in (values, every))
    return DirectionResult(
        attribute=direction.attribute,
        method=direction.method,
        length=direction.length,
        r_squared=fit,
        monotone=monotone,
        reach=reach,
        drift={name: float(drift[k]) for name, k in others.items()},
        random_r_squared=random_fit,
        random_monotone=random_monotone,
        random_reach=sum(reaches) / len(reaches),
        random_drift={name: float(random_drift[k]) for name, k in others.items()},
    )


def _fit_and_reach(along: Tensor, positions: Tensor) -> tuple[float, float, float]:
    """Median R squared, fraction of rising rows and reach of an attribute (N, P)."""
    along = along.double()
    x = positions.double() - positions.double().mean()
    y = along - along.mean(1, keepdim=True)
    fit = (y @ x).square() / (y.square().sum(1) * x.square().sum()).clamp(min=1e-12)
    rising = (along.diff(dim=1) > 0).all(1).double().mean()
    return float(fit.median()), float(rising), float((along[:, -1] - along[:, 0]).mean())


def _drift(values: Tensor) -> Tensor:
    """Mean absolute change (A,) of attributes (N, P, A) from the middle to the ends."""
    middle = values[:, values.shape[1] // 2]
    return ((values[:, 0] - middle).abs() + (values[:, -1] - middle).abs()).mean(0) / 2
