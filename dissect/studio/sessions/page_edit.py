"""The edit as the page sends it, and the `Intervention` that it stands for."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.schema import FileModel
from dissect.studio.sessions.layer_study import LayerStudy
from dissect.surgery import Intervention
from dissect.units import Units

__all__ = ["PageEdit"]


class PageEdit(FileModel, extra="ignore"):
    """What is done to units of a layer.

    Attributes:
        units: by number.
        strength: from 0 (untouched) through 1 (gone) to 2 (sign turned).
        where: everywhere (the paper), where the probe sees the concept, as an edit that exists
            already (`auto`: that of rule `auto`, or of a file), or in brushed cells.
        threshold: of the probe, or of the existing edit.
        remove: numbers of the cells, row by row, in which the units are removed.
        insert: the same, in which the units get their mean activation inside boxes.
    """

    units: tuple[int, ...]
    strength: float = 1.0
    where: Literal["everywhere", "probe", "auto", "brush"] = "everywhere"
    threshold: float = 0.5
    remove: tuple[int, ...] = ()
    insert: tuple[int, ...] = ()

    def intervention(
        self, study: LayerStudy, units: Units, existing: Intervention | None
    ) -> Intervention:
        """The edit of these units.

        Args:
            study: the layer's units beside the concept.
            units: those of the edit.
            existing: needed where the edit acts as that one does.

        Raises:
            DissectError: cells that the layer does not have, or a value out of its range.
        """
        remove, insert = (_cells(cells, study.grid) for cells in (self.remove, self.insert))
        if self.where == "auto":
            assert existing is not None, "a session without an edit refuses this before"
            return self._like(existing, units)
        everywhere = Intervention(units, threshold=self.threshold, strength=self.strength)
        if self.where == "everywhere":
            return everywhere
        if self.where == "probe":
            return replace(everywhere, gate=study.probe.gate())
        parts = []
        if self.remove:
            parts.append(replace(everywhere, region=remove))
        if self.insert:
            parts.append(replace(everywhere, region=insert, replacement=study.inside))
        if not parts:  # nothing is brushed yet
            return replace(everywhere, units=replace(units, indices=()))
        return replace(parts[0], also=tuple(parts[1:]))

    def _like(self, existing: Intervention, units: Units) -> Intervention:
        """What `existing` does, done to these units: its own keep their order and strengths.

        A control gives the strengths to random units by that order.
        """
        own = [unit for unit in existing.units.indices if unit in units.indices]
        others = [unit for unit in units.indices if unit not in existing.units.indices]
        strengths = None
        if existing.unit_strengths is not None:
            known = dict(zip(existing.units.indices, existing.unit_strengths, strict=True))
            strengths = tuple(known.get(unit, 1.0) for unit in (*own, *others))
        return replace(
            existing,
            units=replace(units, indices=(*own, *others)),
            strength=self.strength,
            threshold=self.threshold,
            unit_strengths=strengths,
        )


def _cells(numbers: tuple[int, ...], grid: tuple[int, int]) -> Tensor:
    rows, columns = grid
    if any(not 0 <= number < rows * columns for number in numbers):
        raise DissectError(f"cells of the {rows}x{columns} grid are 0 to {rows * columns - 1}")
    cells = torch.zeros(rows * columns, dtype=torch.bool)
    cells[list(numbers)] = True
    return cells.reshape(rows, columns)
