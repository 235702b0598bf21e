"""What `auto` chose, kept in a file, so that it need not be looked for again."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import torch

from dissect._utils.schema import FileModel, NonEmpty, read_file, write_file
from dissect.probe import Probe
from dissect.selection.objective import Outcome
from dissect.selection.search import Choice
from dissect.surgery import Intervention
from dissect.surgery.edit_file import EditFile
from dissect.surgery.gates import linear_gate

__all__ = ["load_choices", "save_choices", "suits"]


class _MetricsFields(FileModel):
    removed: float
    shown: float
    kept_mean: float
    kept: float
    outside_change: float
    n: int


class _ResultFields(FileModel):
    gate: NonEmpty
    meets_goal: bool
    edit: EditFile
    smaller: tuple[EditFile, ...]
    search: _MetricsFields
    holdout: _MetricsFields


class _SearchFile(FileModel):
    KIND: ClassVar[str] = "search"

    results: dict[str, _ResultFields]


def save_choices(path: str | Path, choices: Mapping[str, Choice]) -> Path:
    """`path`, now holding choices by name, such as `probe` and `everywhere`, as JSON."""
    return write_file(path, _SearchFile(results={k: _fields(one) for k, one in choices.items()}))


def load_choices(path: str | Path) -> dict[str, Choice]:
    """The choices that `save_choices` wrote.

    Raises:
        DissectError: no such file, not a file of choices, or a field of a wrong type or value.
    """
    results = read_file(path, _SearchFile).results
    return {name: _choice(fields, f"{path}: {name!r}") for name, fields in results.items()}


def suits(choice: Choice, model: str, layer: str, concept: str, probe: Probe) -> bool:
    """Whether a choice is of this model, layer and concept, and of these boxes if it uses boxes.

    Args:
        choice: what was chosen.
        model: the fingerprint of the generator.
        layer: the layer that is to be edited.
        concept: the concept that is to be removed.
        probe: the probe that was fitted to the boxes at hand.
    """
    units, gate = choice.intervention.units, choice.intervention.gate
    if (units.model, units.layer, units.concept) != (model, layer, concept):
        return False
    linear = None if gate is None else linear_gate(gate)
    if choice.where != "boxes" or linear is None:
        return True
    return len(linear.weight) == len(probe.weight) and torch.allclose(
        linear.weight, probe.weight, rtol=1e-3, atol=1e-6
    )


def _fields(choice: Choice) -> _ResultFields:
    return _ResultFields(
        gate=choice.where,
        meets_goal=choice.enough,
        edit=choice.intervention.to_file(),
        smaller=tuple(one.to_file() for one in choice.fewer),
        search=_MetricsFields(**asdict(choice.tried)),
        holdout=_MetricsFields(**asdict(choice.tested)),
    )


def _choice(fields: _ResultFields, where: str) -> Choice:
    return Choice(
        fields.gate,
        Intervention.from_file(fields.edit, where),
        tuple(Intervention.from_file(one, where) for one in fields.smaller),
        Outcome(**dict(fields.search)),
        Outcome(**dict(fields.holdout)),
        fields.meets_goal,
    )
