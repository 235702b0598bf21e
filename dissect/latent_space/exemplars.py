"""Latents that represent a concept: chosen by eye, or by attributes of their images."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.schema import FileModel, NonEmpty, parse, read_file, write_file
from dissect._utils.text import near_names
from dissect.latent_space.directions import from_regression
from dissect.segmentation import AttributeReader

__all__ = [
    "Condition",
    "Exemplars",
    "extremes",
    "matching",
    "most_confident",
    "parse_conditions",
]

_CONDITION = re.compile(r"\s*([A-Za-z]\w*)\s*(<|>)\s*([-+]?\d+(?:\.\d*)?|[-+]?\.\d+)\s*")


@dataclass(frozen=True)
class Condition:
    """A limit on an attribute: above or below a value."""

    attribute: str
    above: bool
    value: float

    def __str__(self) -> str:
        return f"{self.attribute}{'>' if self.above else '<'}{self.value:g}"


def parse_conditions(text: str, names: Sequence[str]) -> tuple[Condition, ...]:
    """The conditions of a text such as `smile>0.8,glasses<0.2`, on attributes of `names`.

    Raises:
        DissectError: a malformed condition, or an unknown attribute.

    >>> [str(condition) for condition in parse_conditions("yaw<-20, smile>.5", ("yaw", "smile"))]
    ['yaw<-20', 'smile>0.5']
    """
    conditions = []
    for part in text.split(","):
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise DissectError(
                f"{part.strip()!r} in {text!r} is no condition: write it as smile>0.8 or yaw<-20"
            )
        name, sign, value = match.groups()
        if name not in names:
            raise DissectError(f"unknown attribute {name!r}; known ones: {near_names(name, names)}")
        conditions.append(Condition(name, sign == ">", float(value)))
    return tuple(conditions)


def matching(values: Tensor, conditions: Sequence[Condition], reader: AttributeReader) -> Tensor:
    """Which rows of the attributes (N, A) meet every condition: bool (N,)."""
    met = torch.ones(len(values), dtype=torch.bool, device=values.device)
    for condition in conditions:
        column = values[:, reader.column(condition.attribute)]
        met &= (column > condition.value) if condition.above else (column < condition.value)
    return met


def most_confident(
    z: Tensor,
    values: Tensor,
    conditions: Sequence[Condition],
    reader: AttributeReader,
    *,
    fraction: float = 0.25,
    min_count: int = 20,
) -> Tensor:
    """Rows that meet the conditions, the most confident first: (M,).

    An image may show a concept although its latent lies at the concept's edge, where the other
    latents outweigh it in a sum. Confidence is the smallest margin over the conditions, in stds,
    of least-squares regressions of the attributes on latents. An attribute with a lower and an
    upper limit (yaw>-20,yaw<20) has no margin and is left out.

    Args:
        z: latents (N, D), N at least 2 D.
        values: attributes of their images (N, A).
        conditions: what the images must show.
        reader: of the attributes.
        fraction: of the rows that meet the conditions, 0 to 1, that is kept.
        min_count: number of rows that are kept at least.

    Raises:
        DissectError: a fraction outside (0, 1], or too few latents for a regression.
    """
    if not 0 < fraction <= 1:
        raise DissectError(
            f"the fraction of exemplars that is kept must lie above 0, up to 1; got {fraction}"
        )
    met = matching(values, conditions, reader).nonzero()[:, 0]
    margins = [torch.zeros(len(met), device=z.device)]
    sides = {condition.attribute: set[bool]() for condition in conditions}
    for condition in conditions:
        sides[condition.attribute].add(condition.above)
    one_sided = [c for c in conditions if len(sides[c.attribute]) == 1]
    for condition in one_sided:
        along = z @ from_regression(z, values, reader.column(condition.attribute))
        scaled = (along - along.mean()) / along.std()
        margins.append(scaled[met] if condition.above else -scaled[met])
    order = torch.stack(margins[1:] or margins).min(0).values.argsort(descending=True, stable=True)
    return met[order][: max(min_count, round(fraction * len(met)))]


def extremes(
    values: Tensor,
    column: int,
    count: int,
    *,
    z: Tensor | None = None,
    pool: int = 200,
    draws: int = 2_000,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Rows with little and with much of an attribute, alike in all others: two of (count,).

    This imitates a person who chooses faces that look left and right. Among the `pool` most
    extreme rows at each end, `draws` random choices of `count` are compared, and the one is taken
    whose means of the other attributes differ least. It is then improved by exchanging one row at
    a time until no exchange helps. If latents are given, their means are to differ little too:
    half of the difference between means of a few has nothing to do with the attribute.

    Args:
        values: attributes (N, A).
        column: the attribute.
        count: number of rows at each end.
        z: latents (N, D) of the rows.
        pool: number of most extreme rows to choose from, at most an eighth of all.
        draws: number of random choices that are compared.
        seed: of the choices.

    Raises:
        DissectError: fewer than two times `count` rows.
    """
    if count < 1 or len(values) < 2 * count:
        raise DissectError(f"{count} exemplars at each end need {2 * count} samples or more")
    order = values[:, column].argsort()
    size = min(max(count, min(pool, len(values) // 8)), len(values) // 2)
    others = [k for k in range(values.shape[1]) if k != column]
    about = (values / values.std(0).clamp(min=1e-9))[:, others]
    if z is not None:
        about = torch.cat([about, z / z.std(0).clamp(min=1e-9)], 1)
    low, high = about[order[:size]], about[order[-size:]]
    random = torch.Generator().manual_seed(seed)
    picks = torch.stack([torch.randperm(size, generator=random)[:count] for _ in range(2 * draws)])
    first, last = picks[:draws], picks[draws:]
    apart = (low[first].mean(1) - high[last].mean(1)).square().sum(1)
    best = int(apart.argmin())
    chosen = (first[best].clone(), last[best].clone())
    _exchange((low, high), chosen)
    return order[:size][chosen[0]], order[-size:][chosen[1]]


def _exchange(pools: tuple[Tensor, Tensor], chosen: tuple[Tensor, Tensor]) -> None:
    """Exchange chosen rows for others of the pools (M, K) while that brings the means nearer."""
    count = len(chosen[0])
    better = True
    while better:
        better = False
        for side in (0, 1):
            pool, rows = pools[side], chosen[side]
            for position in range(count):
                apart = pool[rows].mean(0) - pools[1 - side][chosen[1 - side]].mean(0)
                tried = (apart + (pool - pool[rows[position]]) / count).square().sum(1)
                tried[rows[torch.arange(count) != position]] = torch.inf
                best = int(tried.argmin())
                if tried[best] < 0.999 * tried[rows[position]]:
                    rows[position] = best
                    better = True


class _ExemplarFile(FileModel):
    KIND: ClassVar[str] = "exemplars"
    seed: Annotated[int, Field(ge=0)]
    n: Annotated[int, Field(ge=1)]
    fingerprint: str | None = None
    how: str | None = None
    concepts: dict[NonEmpty, tuple[int, ...]]


@dataclass(frozen=True, repr=False)
class Exemplars(ShortRepr):
    """For each concept, the indices of latents that represent it.

    Attributes:
        concepts: indices by concept.
        seed: of the latents.
        n: number of latents that were inspected; indices lie below it.
        fingerprint: of the model; None fits any.
        how: how they were chosen, for a human reader.
        where: the file, for messages.
    """

    concepts: Mapping[str, tuple[int, ...]]
    seed: int = 0
    n: int = 64
    fingerprint: str | None = None
    how: str | None = None
    where: str = field(default="exemplars", compare=False)

    def __post_init__(self) -> None:
        if self.seed < 0 or self.n < 1 or not self.concepts:
            raise DissectError(f"{self.where}: seed must be 0 or more, n 1 or more, concepts some")
        for concept, indices in self.concepts.items():
            if not indices:
                raise DissectError(f"{self.where}: {concept!r} has no exemplar")
            for index in indices:
                if not 0 <= index < self.n:
                    raise DissectError(
                        f"{self.where}: exemplar {index} of {concept!r} is out of range: there are "
                        f"{self.n}, 0 to {self.n - 1}"
                    )

    @classmethod
    def load(cls, path: str | Path) -> "Exemplars":
        """The exemplars that a JSON file lists.

            {"kind": "exemplars", "version": 1, "seed": 0, "n": 200, "fingerprint": "0f3a...",
             "how": "by eye, from the contact sheet",
             "concepts": {"smiling woman": [3, 17, 40], "neutral woman": [8, 21, 90]}}

        Raises:
            DissectError: the file is absent or malformed, or an index is out of range.
        """
        content = read_file(path, _ExemplarFile)
        return cls(**dict(content), where=str(path))

    def save(self, path: str | Path) -> Path:
        """`path`, now holding the exemplars as JSON."""
        values = {
            "seed": self.seed,
            "n": self.n,
            "fingerprint": self.fingerprint,
            "how": self.how,
            "concepts": {name: list(indices) for name, indices in self.concepts.items()},
        }
        return write_file(path, parse(_ExemplarFile, values, self.where))

    def check(self, fingerprint: str) -> None:
        """Raise if the exemplars were chosen from another model.

        Raises:
            DissectError: the fingerprints differ.
        """
        if self.fingerprint is not None and self.fingerprint != fingerprint:
            raise DissectError(
                f"{self.where} lists latents of another model (fingerprint {self.fingerprint}, "
                f"this one has {fingerprint}); choose them again from this model's samples"
            )

    def indices(self, concept: str) -> tuple[int, ...]:
        """The exemplars of a concept.

        Raises:
            DissectError: there is no such concept.
        """
        if concept not in self.concepts:
            near = near_names(concept, self.concepts)
            raise DissectError(f"{self.where} has no concept {concept!r}; it has: {near}")
        return tuple(self.concepts[concept])
