"""How cleanly an attribute follows a direction."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.latent_space.directions import Direction
from dissect.latent_space.readout import read
from dissect.segmentation import AttributeReader

__all__ = ["TurnScore", "calibrated", "judged", "random_like", "read_rows", "scored"]

_LENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
_STEEPEST_DROP = 0.6  # of the slope in the middle that the ends must keep
_RISING = 0.8  # of the rows
_RANDOM = 3  # directions


@dataclass(frozen=True)
class TurnScore:
    """An attribute along a direction, over many faces.

    Attributes:
        attribute: what should change.
        method: how the direction was found.
        length: of the vector that leads from the middle to an end.
        r_squared: median over rows of the squared correlation of the attribute with the position.
        monotone: share of rows in which each step moves the attribute the same, right way.
        reach: mean of the attribute at the last position less that at the first.
        drift: for each other attribute, mean change from the middle to the ends, whatever its sign,
            in deviations of that attribute among ordinary samples.
        random_r_squared, random_monotone, random_drift: the same under random directions of the
            same length, and random_reach, the mean of their reaches, whatever the sign. R squared
            alone proves little: what hardly moves moves evenly.
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


def read_rows(
    generator: nn.Module,
    reader: AttributeReader,
    z: Tensor,
    direction: Direction,
    positions: Tensor,
    *,
    centred: bool = False,
) -> Tensor:
    """Attributes (N, P, A) of latents (N, D) moved to each position along a direction."""
    moved = direction.applied(z, positions, centred=centred)
    found = read(generator, reader, moved.flatten(0, 1))
    return found.reshape(len(z), len(positions), -1)


def calibrated(
    generator: nn.Module,
    reader: AttributeReader,
    z: Tensor,
    direction: Direction,
    *,
    centred: bool = False,
) -> Direction:
    """The direction as long as it can be before its attribute saturates.

    The attribute is read over `z` at eleven positions, for rising lengths. The longest is taken at
    which the slope of its mean curve at both ends is still 0.6 of that in the middle, and at which
    it rises at every step in 0.8 of the rows: a sample that is at an end already saturates sooner
    than the mean does. Where the shortest length fails already, as with what moves by jumps, the
    direction is left as it is.
    """
    column = reader.column(direction.attribute)
    positions = torch.linspace(-1, 1, 11)
    chosen = direction
    for length in _LENGTHS:
        tried = direction.of_length(length)
        curve = read_rows(generator, reader, z, tried, positions, centred=centred)
        steps = curve[:, :, column].diff(dim=1)
        mean = steps.mean(0)
        ends, middle = (mean[:2].mean(), mean[-2:].mean()), mean[3:7].mean()
        rising = (steps > 0).all(1).double().mean()
        if middle <= 0 or min(ends) < _STEEPEST_DROP * middle or rising < _RISING:
            break
        chosen = tried
    return chosen


def random_like(direction: Direction, n: int, seed: int = 0) -> tuple[Direction, ...]:
    """`n` random directions as long as this one: what any change of latents does."""
    random = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, len(direction.vector), generator=random)
    return tuple(
        Direction(v, direction.attribute, "random").of_length(direction.length) for v in vectors
    )


def judged(
    generator: nn.Module,
    reader: AttributeReader,
    values: Tensor,
    direction: Direction,
    z: Tensor,
    spread: Tensor,
    *,
    centred: bool = False,
    seed: int = 0,
) -> TurnScore:
    """The score of attributes (N, P, A) read along a direction, beside random directions.

    Each of three random directions is followed from a third of the latents.

    Args:
        generator: latents to images.
        reader: what read them, and reads them again.
        values: attributes at P positions from -1 to 1.
        direction: what was followed.
        z: (N, D), N at least 3.
        spread: deviation (A,) of each attribute among ordinary samples.
        centred: as it was followed.
        seed: of the random directions.
    """
    positions = torch.linspace(-1, 1, values.shape[1])
    random = [
        read_rows(generator, reader, z[place::_RANDOM], other, positions, centred=centred)
        for place, other in enumerate(random_like(direction, _RANDOM, seed))
    ]
    return scored(values, positions, direction, reader, spread, random)


def scored(
    values: Tensor,
    positions: Tensor,
    direction: Direction,
    reader: AttributeReader,
    spread: Tensor,
    random: Sequence[Tensor],
) -> TurnScore:
    """The score of attributes (N, P, A) read along a direction (see `read_rows`).

    Args:
        values: attributes at each position.
        positions: (P,), rising, the middle one 0.
        direction: what was followed.
        reader: what read them.
        spread: deviation (A,) of each attribute among ordinary samples.
        random: readings under random directions, for each (M, P, A), at least one.

    Raises:
        DissectError: fewer than three positions, or an even number of them.
    """
    if len(positions) < 3 or len(positions) % 2 == 0:
        raise DissectError("a turn is measured at an odd number of positions, at least 3")
    column = reader.column(direction.attribute)
    others = {name: k for k, name in enumerate(reader.names) if k != column}
    fit, monotone, reach = _followed(values[:, :, column], positions)
    every = torch.cat(list(random))
    random_fit, random_monotone, _ = _followed(every[:, :, column], positions)
    reaches = [abs(_followed(each[:, :, column], positions)[2]) for each in random]
    drift, random_drift = (_drift(read) / spread.clamp(min=1e-9) for read in (values, every))
    return TurnScore(
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


def _followed(along: Tensor, positions: Tensor) -> tuple[float, float, float]:
    """R squared of the median row, share of rising rows and reach of an attribute (N, P)."""
    along = along.double()
    x = positions.double() - positions.double().mean()
    y = along - along.mean(1, keepdim=True)
    fit = (y @ x).square() / (y.square().sum(1) * x.square().sum()).clamp(min=1e-12)
    rising = (along.diff(dim=1) > 0).all(1).double().mean()
    return float(fit.median()), float(rising), float((along[:, -1] - along[:, 0]).mean())


def _drift(values: Tensor) -> Tensor:
    """Mean change (A,) of attributes (N, P, A) from the middle to the ends, whatever its sign."""
    middle = values[:, values.shape[1] // 2]
    return ((values[:, 0] - middle).abs() + (values[:, -1] - middle).abs()).mean(0) / 2
