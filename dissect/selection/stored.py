"""What `auto` chose, kept in a file, so that it need not be looked for again."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.records import Record, read_record, write_record
from dissect.probe import Probe
from dissect.selection.objective import Outcome
from dissect.selection.search import Choice
from dissect.surgery import Gate
from dissect.surgery.intervention import Intervention
from dissect.units import Units

__all__ = ["load_choices", "save_choices", "suits"]

_KIND, _VERSION = "choices", 2


def save_choices(path: str | Path, choices: Mapping[str, Choice]) -> Path:
    """`path`, now holding choices by name, such as `probe` and `everywhere`, as JSON."""
    return write_record(
        path, _KIND, _VERSION, {"choices": {name: _fields(one) for name, one in choices.items()}}
    )


def load_choices(path: str | Path) -> dict[str, Choice]:
    """The choices that `save_choices` wrote.

    Raises:
        DissectError: no such file, not a file of choices, or a field of a wrong type or value.
    """
    record = read_record(path, _KIND, _VERSION).record("choices")
    try:
        return {name: _choice(record.record(name)) for name in record.fields}
    except DissectError as error:
        text = str(error)
        raise DissectError(text if text.startswith(str(path)) else f"{path}: {text}") from error


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
    if choice.where != "boxes" or not isinstance(gate, Probe):
        return True
    return len(gate.weight) == len(probe.weight) and torch.allclose(
        gate.weight, probe.weight, rtol=1e-3, atol=1e-6
    )


def _fields(choice: Choice) -> dict[str, Any]:
    return {
        "where": choice.where,
        "enough": choice.enough,
        "tried": asdict(choice.tried),
        "tested": asdict(choice.tested),
        "edit": _edit_fields(choice.intervention),
        "fewer": [_edit_fields(one) for one in choice.fewer],
        "gate": _gate_fields(choice.intervention.gate),
    }


def _gate_fields(gate: Gate | None) -> dict[str, Any] | None:
    if not (gate is None or isinstance(gate, Probe)):
        raise DissectError("a choice is saved with a probe for its gate, or with none")
    return None if gate is None else gate.fields()


def _edit_fields(edit: Intervention) -> dict[str, Any]:
    """An edit but for its gate, which is the same for all of a choice."""
    if isinstance(edit.replacement, Tensor):
        raise DissectError("a choice is saved with units that are removed, not replaced")
    return {
        "strength": edit.strength,
        "threshold": edit.threshold,
        "units": asdict(edit.units),
        "doses": None if edit.doses is None else list(edit.doses),
    }


def _choice(record: Record) -> Choice:
    gate = Probe.of(record.record("gate")) if record.has("gate") else None
    return Choice(
        record.text("where"),
        _edit(record.record("edit"), gate),
        tuple(_edit(one, gate) for one in record.records("fewer")),
        _outcome(record.record("tried")),
        _outcome(record.record("tested")),
        record.fields.get("enough") is True,
    )


def _edit(record: Record, gate: Probe | None) -> Intervention:
    units = _units(record.record("units"))
    doses = record.numbers("doses", len(units)) if record.has("doses") else None
    threshold, strength = record.number("threshold"), record.number("strength")
    return Intervention(units, gate, threshold, strength, doses=doses)


def _units(record: Record) -> Units:
    indices = record.integers("indices")
    return Units(
        record.text("layer"),
        indices,
        record.integer("total", 1),
        record.numbers("scores", len(indices)) if record.fields.get("scores") else (),
        **{key: record.text_or_none(key) for key in ("concept", "rule", "model")},
    )


def _outcome(record: Record) -> Outcome:
    values = {
        one.name: record.integer("n") if one.name == "n" else record.number(one.name)
        for one in fields(Outcome)
    }
    return Outcome(**values)  # type: ignore[arg-type]
