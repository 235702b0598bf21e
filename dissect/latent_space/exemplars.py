"""Which latents stand for a concept: picked by eye, or found by what their images show."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dissect.attributes import AttributeReader
from dissect.errors import DissectError
from dissect.records import near_names, read_record, write_record

__all__ = ["Condition", "Exemplars", "ends", "meeting", "parse_conditions"]

_KIND, _VERSION = "exemplars", 1
_CONDITION = re.compile(r"\s*([A-Za-z]\w*)\s*(<|>)\s*([-+]?\d+(?:\.\d*)?|[-+]?\.\d+)\s*")


@dataclass(frozen=True)
class Condition:
    """What an attribute must be: above or below a value."""

    attribute: str
    above: bool
    value: float

    def __str__(self) -> str:
        return f"{self.attribute}{'>' if self.above else '<'}{self.value:g}"


def parse_conditions(text: str, names: Sequence[str]) -> tuple[Condition, ...]:
    """The conditions of `smile>0.8,glasses<0.2`, on attributes of `names`.

    Raises:
        DissectError: a malformed condition, or an unknown attribute.
    """
    found = []
    for part in text.split(","):
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise DissectError(
                f"{part.strip()!r} in {text!r} is no condition: write it as smile>0.8 or yaw<-20"
            )
        name, sign, value = match.groups()
        if name not in names:
            raise DissectError(f"unknown attribute {name!r}; known ones: {near_names(name, names)}")
        found.append(Condition(name, sign == ">", float(value)))
    return tuple(found)


def meeting(values: Tensor, conditions: Sequence[Condition], reader: AttributeReader) -> Tensor:
    """Which rows of the attributes (N, A) meet every condition: bool (N,)."""
    met = torch.ones(len(values), dtype=torch.bool, device=values.device)
    for condition in conditions:
        column = values[:, reader.number(condition.attribute)]
        met &= (column > condition.value) if condition.above else (column < condition.value)
    return met


def ends(
    values: Tensor, column: int, count: int, *, among: int = 60, draws: int = 2_000, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Rows that show little and much of an attribute, alike in all others: two of (count,).

    What a person does who picks faces looking left and right: of the `among` most extreme rows at
    each end, `draws` random choices of `count` are compared, and the one is taken whose means of
    the other attributes differ least.

    Args:
        values: attributes (N, A).
        column: the attribute whose ends are wanted.
        count: rows at each end.
        among: the most extreme ones from which they are chosen.
        draws: how many choices are compared.
        seed: of the choices.

    Raises:
        DissectError: fewer than two times `count` rows.
    """
    if count < 1 or len(values) < 2 * count:
        raise DissectError(f"{count} exemplars at each end need {2 * count} samples or more")
    order = values[:, column].argsort()
    pool = max(count, min(among, len(values) // 4))
    low, high = order[:pool], order[-pool:]
    others = [k for k in range(values.shape[1]) if k != column]
    scaled = (values / values.std(0).clamp(min=1e-9))[:, others]
    random = torch.Generator().manual_seed(seed)
    picks = torch.stack([torch.randperm(pool, generator=random)[:count] for _ in range(2 * draws)])
    first, last = low[picks[:draws]], high[picks[draws:]]
    apart = (scaled[first].mean(1) - scaled[last].mean(1)).square().sum(1)
    best = int(apart.argmin())
    return first[best], last[best]


@dataclass(frozen=True)
class Exemplars:
    """For each concept, the indices of latents of one series that stand for it.

    Attributes:
        concepts: indices by concept.
        seed: the series.
        n: how many latents were looked through; indices lie below it.
        fingerprint: of the model; None fits any.
        how: how they were picked, for a reader.
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
            DissectError: the file is absent or malformed, with the place; or an index is out of
                range.
        """
        record = read_record(path, _KIND, _VERSION)
        concepts = record.record("concepts")
        named = {name: concepts.integers(name) for name in concepts.fields}
        return cls(
            concepts=named,
            seed=record.integer("seed"),
            n=record.integer("n", 1),
            fingerprint=record.text_or_none("fingerprint"),
            how=record.text_or_none("how"),
            where=str(path),
        )

    def save(self, path: str | Path) -> Path:
        """`path`, now holding the exemplars as JSON."""
        values = {
            "seed": self.seed,
            "n": self.n,
            "fingerprint": self.fingerprint,
            "how": self.how,
            "concepts": {name: list(indices) for name, indices in self.concepts.items()},
        }
        return write_record(path, _KIND, _VERSION, values)

    def check(self, fingerprint: str) -> None:
        """Refuse another model than the one that the exemplars were picked from.

        Raises:
            DissectError: the fingerprints differ.
        """
        if self.fingerprint is not None and self.fingerprint != fingerprint:
            raise DissectError(
                f"{self.where} lists latents of another model (fingerprint {self.fingerprint}, "
                f"this one has {fingerprint}); pick them anew from this model's samples"
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
