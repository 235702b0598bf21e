"""How cleanly an attribute follows a direction."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dissect.attributes import AttributeReader
from dissect.errors import DissectError
from dissect.latent_space.directions import Direction
from dissect.latent_space.reading import read

__all__ = ["TurnScore", "calibrated", "random_like", "read_rows", "scored"]

_LENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
_STEEPEST_DROP = 0.6  # of the slope in the middle that the ends must keep
_RISING = 0.8  # of the rows


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
        random_drift: the same under random directions of the same length.
    """

    attribute: str
    method: str
    length: float
    r_squared: float
    monotone: float
    reach: float
    drift: dict[str, float]
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
    than the mean does.
    """
    column = reader.number(direction.attribute)
    positions = torch.linspace(-1, 1, 11)
    chosen = direction.of_length(_LENGTHS[0])
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
        random: the same readings under random directions, at the ends and the middle.

    Raises:
        DissectError: fewer than three positions, or an even number of them.
    """
    if len(positions) < 3 or len(positions) % 2 == 0:
        raise DissectError("a turn is measured at an odd number of positions, at least 3")
    column = reader.number(direction.attribute)
    along = values[:, :, column].double()
    x = positions.double() - positions.double().mean()
    y = along - along.mean(1, keepdim=True)
    fit = (y @ x).square() / (y.square().sum(1) * x.square().sum()).clamp(min=1e-12)
    monotone = (along.diff(dim=1) > 0).all(1)
    others = [k for k in range(len(reader.names)) if k != column]

    def drift(read: Tensor) -> dict[str, float]:
        middle = read[:, read.shape[1] // 2]
        change = ((read[:, 0] - middle).abs() + (read[:, -1] - middle).abs()).mean(0) / 2
        scaled = change / spread.clamp(min=1e-9)
        return {reader.names[k]: float(scaled[k]) for k in others}

    drawn = [drift(read) for read in random]
    return TurnScore(
        attribute=direction.attribute,
        method=direction.method,
        length=direction.length,
        r_squared=float(fit.median()),
        monotone=float(monotone.double().mean()),
        reach=float((along[:, -1] - along[:, 0]).mean()),
        drift=drift(values),
        random_drift={
            reader.names[k]: sum(each[reader.names[k]] for each in drawn) / max(len(drawn), 1)
            for k in others
        },
    )
