"""An edit as the page sends it, and as it is done to a generator."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect.studio.sessions.layer_study import LayerStudy
from dissect.surgery.apply import unit_amounts
from dissect.surgery.intervention import Intervention
from dissect.units import Units

__all__ = ["Edit", "Step", "Where", "steps"]

Where = Literal["everywhere", "probe", "auto", "brush"]
Step = tuple[Units, dict[str, Any]]
"""Units, and the other arguments of `ablated` and of `bake`."""


@dataclass(frozen=True)
class Edit:
    """What is done to a sample.

    Attributes:
        units: of a layer, by number.
        strength: from 0 (untouched) through 1 (gone) to 2 (sign turned).
        where: everywhere (the paper), where the probe sees the concept, as rule `auto` chose, or
            in brushed cells.
        threshold: of the probe, or of the gate that `auto` chose.
        remove: numbers of the cells, row by row, that were brushed to remove the units in.
        insert: the same, to put in what the units do inside boxes.
    """

    units: tuple[int, ...]
    strength: float = 1.0
    where: Where = "everywhere"
    threshold: float = 0.5
    remove: tuple[int, ...] = ()
    insert: tuple[int, ...] = ()


def steps(
    study: LayerStudy, auto: Intervention | None, units: Units, edit: Edit, draw: int | None = None
) -> list[Step]:
    """What an edit does, one step after the other.

    Args:
        study: the layer's units.
        auto: what rule `auto` chose; needed where the edit acts as it does.
        units: those of the edit.
        edit: what to do to them.
        draw: the seed of the control: as many random units instead; None is the units themselves.

    Raises:
        DissectError: cells that the layer does not have, or a value out of its range.
    """
    remove, insert = (_cells(cells, study.grid) for cells in (edit.remove, edit.insert))
    if edit.where == "auto":
        assert auto is not None, "whoever asks for auto's edit looked for it"
        same = _as_chosen(auto, units, edit)
        same = same if draw is None else same.control(draw)
        where = {"where": same.gate, "threshold": same.threshold}
        amounts = unit_amounts(same, torch.empty(0))
        strength = same.strength if amounts is None else amounts
        return [(same.units, {**where, "strength": strength})]
    units = units if draw is None else units.random(draw)
    common: dict[str, Any] = {"strength": edit.strength, "threshold": edit.threshold}
    if edit.where != "brush":
        return [(units, {**common, "where": study.probe if edit.where == "probe" else None})]
    found: list[Step] = []
    if edit.remove:
        found.append((units, {**common, "where": remove}))
    if edit.insert:
        typical = study.inside[list(units.indices)]
        found.append((units, {**common, "where": insert, "replacement": typical}))
    return found


def _as_chosen(auto: Intervention, units: Units, edit: Edit) -> Intervention:
    """What `auto` does, done to these units: its gate, and its dose of those that it chose.

    Its own units come in its own order, by which a control gives the doses to random units.
    """
    own = [unit for unit in auto.units.indices if unit in units.indices]
    others = [unit for unit in units.indices if unit not in auto.units.indices]
    units = replace(units, indices=(*own, *others))
    strengths = None
    if auto.unit_strengths is not None:
        known = dict(zip(auto.units.indices, auto.unit_strengths, strict=True))
        strengths = tuple(known.get(unit, 1.0) for unit in units.indices)
    return replace(
        auto,
        units=units,
        strength=edit.strength,
        threshold=edit.threshold,
        unit_strengths=strengths,
    )


def _cells(numbers: tuple[int, ...], grid: tuple[int, int]) -> Tensor:
    rows, columns = grid
    if any(not 0 <= number < rows * columns for number in numbers):
        raise DissectError(f"cells of the {rows}x{columns} grid are 0 to {rows * columns - 1}")
    cells = torch.zeros(rows * columns, dtype=torch.bool)
    cells[list(numbers)] = True
    return cells.reshape(rows, columns)
