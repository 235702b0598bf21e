"""Units of one layer: which feature maps or directions, and how they scored."""

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, SupportsFloat, SupportsIndex

import numpy as np
from pydantic import Field

from dissect._utils.errors import DissectError
from dissect._utils.result import Result, to_plain
from dissect._utils.schema import FileModel, NonEmpty, parse, read_file, write_file
from dissect.units.directions import Directions, DirectionsFile

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Units", "UnitsFile", "check_count"]


class UnitsFile(FileModel):
    """`units.json`, and the units inside other files; `Units` says what the fields are."""

    KIND: ClassVar[str] = "units"

    layer: NonEmpty
    indices: tuple[int, ...]
    total: Annotated[int, Field(ge=1)]
    scores: tuple[float, ...] = ()
    concept: NonEmpty | None = None
    rule: NonEmpty | None = None
    model: NonEmpty | None = None
    directions: DirectionsFile | None = None


@dataclass(frozen=True, repr=False)
class Units(Result):
    """Units of one layer, best first: channels, or directions in the space of its channels.

    Attributes:
        layer: the name of the submodule whose output they are units of.
        indices: indices of channels, or of directions among all that were found; each in
            [0, total), none twice; in order of rank, best first.
        total: how many units the layer has, or how many directions were found.
        scores: one finite number a unit, larger is better; empty where the units have none.
        concept: what they draw, where that is known.
        rule: how they were chosen, where that is known.
        model: the fingerprint of the model, where that is known.
        directions: what each of the units reads and writes, in their order; None for channels.

    Raises:
        DissectError: an index twice or out of range, or scores or directions that do not pair
            with the indices.

    >>> units = Units("layer8x8", (17, 3, 250), total=256, concept="window")
    >>> len(units), units.top(2).indices
    (3, (17, 3))
    """

    layer: str
    indices: tuple[int, ...]
    total: int
    scores: tuple[float, ...] = ()
    concept: str | None = None
    rule: str | None = None
    model: str | None = None
    directions: Directions | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", _integers(self.indices))
        object.__setattr__(self, "scores", _floats(self.scores))
        if not self.layer:
            raise DissectError("units need the name of their layer")
        if self.total < 1:
            raise DissectError(f"a layer has at least 1 unit, not {self.total}")
        outside = [index for index in self.indices if not 0 <= index < self.total]
        if outside:
            raise DissectError(
                f"unit {outside[0]} is not in {self.layer!r}: "
                f"its {self.total} units are 0 to {self.total - 1}"
            )
        if len(set(self.indices)) < len(self.indices):
            twice = next(index for index in self.indices if self.indices.count(index) > 1)
            raise DissectError(f"unit {twice} of {self.layer!r} is listed twice; once is enough")
        if self.scores and len(self.scores) != len(self.indices):
            raise DissectError(
                f"{len(self.scores)} scores do not pair with {len(self.indices)} units"
            )
        if not all(map(math.isfinite, self.scores)):
            raise DissectError(f"the scores of units in {self.layer!r} must be finite numbers")
        if self.directions is not None and len(self.directions) != len(self.indices):
            raise DissectError(
                f"{len(self.directions)} directions do not pair with {len(self.indices)} units"
            )

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def text(self) -> str:
        """How many units of which layer, in words."""
        whole = self.directions is not None and len(self) == self.total
        count = f"{len(self)}" if whole else f"{len(self)} of {self.total}"
        return f"{count} {self.noun} of {self.layer}"

    @property
    def noun(self) -> str:
        """What the units are called: units, or directions."""
        if self.directions is None:
            return "units"
        return "direction" if self.total == 1 else "directions"

    @property
    def channels(self) -> int:
        """How many channels the layer has (C)."""
        return self.total if self.directions is None else self.directions.channels

    def values(self, activations: "Tensor") -> "Tensor":
        """The values of the units, (N, len(units), ...), of the layer's activations (N, C, ...).

        Raises:
            DissectError: activations of another number of channels.
        """
        if self.directions is not None:
            return self.directions.values(activations)
        if activations.ndim < 2 or activations.shape[1] != self.total:
            raise DissectError(
                f"layer {self.layer!r} gives {tuple(activations.shape)}, and the units are of a "
                f"layer of {self.total}: choose the units on this model"
            )
        return activations[:, list(self.indices)]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them; directions where they are such."""
        plain = {
            one.name: to_plain(getattr(self, one.name))
            for one in fields(self)
            if one.name != "directions"
        }
        if self.directions is not None:
            plain["directions"] = self.directions.to_file().model_dump(mode="json")
        return plain

    def summary(self) -> dict[str, Any]:
        """How many units of which layer, and what they draw."""
        named = {"concept": self.concept, "rule": self.rule}
        kind = "units" if self.directions is None else "directions"
        size = f"{len(self)} of {self.total}"
        return {"layer": self.layer, kind: size, **{k: v for k, v in named.items() if v}}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each unit, best first: its index, and its score where it has one."""
        if not self.scores:
            return [{"unit": unit} for unit in self.indices]
        pairs = zip(self.indices, self.scores, strict=True)
        return [{"unit": unit, "score": score} for unit, score in pairs]

    def top(self, k: int) -> "Units":
        """The `k` units of the highest scores (of the lowest ranks, where they have no scores).

        Raises:
            DissectError: `k` below 1 or above the number of units.
        """
        check_count(k, len(self), "the set")
        order: Sequence[int] = range(len(self))
        if self.scores:
            order = sorted(order, key=lambda rank: -self.scores[rank])
        chosen = list(order[:k])
        return replace(
            self,
            indices=tuple(self.indices[rank] for rank in chosen),
            scores=tuple(self.scores[rank] for rank in chosen) if self.scores else (),
            rule=f"top:{k}",
            directions=None if self.directions is None else self.directions[chosen],
        )

    def random(self, seed: int = 0) -> "Units":
        """The control: as many units of the same layer, drawn at random without replacement.

        They come from the layer's other units. Where those are hardly more than are drawn (fewer
        than 5 for 4), so that all controls would be alike, they come from the whole layer, and
        overlap with the set; they are the set itself only where it is the whole layer. Directions
        are turned at random together (see `Directions.rotated`).
        A function of the set and of `seed` alone.

        Raises:
            DissectError: a negative seed.
        """
        if seed < 0:
            raise DissectError(f"a seed is at least 0, not {seed}")
        if self.directions is not None:
            turned = self.directions.rotated(seed)
            return replace(self, scores=(), concept=None, rule=f"random:{seed}", directions=turned)
        pool = sorted(set(range(self.total)) - set(self.indices))
        if 4 * len(pool) < 5 * len(self):
            pool = list(range(self.total))
        own, rng = tuple(sorted(self.indices)), np.random.default_rng(seed)
        drawn = own
        while drawn == own:
            drawn = tuple(sorted(rng.permutation(pool)[: len(self)].tolist()))
            if len(self) in (0, self.total):  # there is no other
                break
        return Units(
            layer=self.layer,
            indices=drawn,
            total=self.total,
            rule=f"random:{seed}",
            model=self.model,
        )

    def check(self, fingerprint: str | None, layer: str, total: int) -> None:
        """Nothing, where the units belong to this layer of this model.

        Args:
            fingerprint: the model's fingerprint; None leaves the model unchecked.
            layer: the layer's name.
            total: how many channels the layer has.

        Raises:
            DissectError: another layer, another number of channels, or another model.
        """
        if layer != self.layer:
            raise DissectError(f"these are units of layer {self.layer!r}, not of {layer!r}")
        if total != self.channels:
            raise DissectError(
                f"these units were chosen among {self.channels} in {self.layer!r}, which has "
                f"{total} in this model: choose the units on this model"
            )
        if None not in (fingerprint, self.model) and fingerprint != self.model:
            raise DissectError(
                f"these units were chosen on model {self.model}, and this is {fingerprint}: "
                "load that model, or choose the units on this one"
            )

    @classmethod
    def from_dict(cls, fields: Any, where: str = "units") -> "Units":
        """The units of such fields.

        Args:
            fields: what `to_dict` gives.
            where: what they are called in an error.

        Raises:
            DissectError: a field that is missing, unknown, or of a wrong type or value.
        """
        return cls.from_file(parse(UnitsFile, fields, where), where)

    @classmethod
    def from_file(cls, file: UnitsFile, where: str = "units") -> "Units":
        """The units of fields that were read, which are called `where` in an error."""
        try:
            along = None if file.directions is None else Directions.from_file(file.directions)
            return cls(**{**dict(file), "directions": along})
        except DissectError as error:
            raise DissectError(f"{where}: {error}") from error

    def save(self, path: str | Path) -> Path:
        """`path`, now holding the units as JSON; `Units.load` gives the same units back."""
        return write_file(path, parse(UnitsFile, self.to_dict(), "units"))

    @classmethod
    def load(cls, path: str | Path) -> "Units":
        """The units of a file that `save` wrote or a person typed.

        Raises:
            DissectError: no such file, not a file of units, or a field of a wrong type or value.
        """
        return cls.from_file(read_file(path, UnitsFile), str(path))


def check_count(count: int, available: int, source: str) -> None:
    """Nothing, where so many units can be taken of so many.

    Raises:
        DissectError: a count below 1, or above their number.
    """
    if not 1 <= count <= available:
        raise DissectError(f"cannot take {count} units of {source}, which has {available}")


def _integers(values: Iterable[SupportsIndex]) -> tuple[int, ...]:
    return tuple(operator.index(value) for value in values)


def _floats(values: Iterable[SupportsFloat]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
