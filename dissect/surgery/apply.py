"""What an edit makes of the values of its layer."""

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect.models.gated import moved_along
from dissect.surgery.gates import open_cells
from dissect.surgery.layer_edit import LayerEdit

__all__ = ["edit_amounts", "edited_activation", "unit_amounts", "unit_levels"]


def edited_activation(edit: LayerEdit, activation: Tensor) -> Tensor:
    """The layer's activation after `edit`, without the edits in its `also`.

    Raises:
        DissectError: an activation of another number of units, or a gate of another grid or batch.
    """
    units = edit.units
    if activation.ndim < 2 or activation.shape[1] != units.channels:
        raise DissectError(
            f"layer {units.layer!r} gives {tuple(activation.shape)}, and the units are of a layer "
            f"of {units.channels}: choose the units on this model"
        )
    single = edit.strength if edit.unit_strengths is None else None
    where, levels = edit.where, unit_levels(edit)
    if not len(units) or single == 0:
        return activation
    if units.directions is not None:
        along = units.directions
        after = moved_along(
            activation,
            *(along.read, along.write, along.offsets),
            *(edit_amounts(edit), torch.zeros(len(units)) if levels is None else levels),
            rectified=along.rectified,
        )
        if where is None:
            return after
        is_open = open_cells(where, activation, edit.threshold, units.layer)
        return torch.where(is_open.unsqueeze(1), after, activation)
    index = torch.tensor(units.indices, device=activation.device)
    if where is None and single == 1 and levels is None:
        return activation.index_fill(1, index, 0.0)
    before = activation.index_select(1, index)
    shape = (1, -1, *([1] * (activation.ndim - 2)))
    if levels is None:
        target = torch.zeros_like(before)
    else:
        target = levels.to(before).reshape(shape).expand_as(before)
    amounts = unit_amounts(edit, before)
    amount = edit.strength if amounts is None else amounts.reshape(shape)
    # Strength 1 puts the target itself: a - 1 * (a - t) is not t to the last digit.
    after = target if single == 1 else before - amount * (before - target)
    if where is not None:
        is_open = open_cells(where, activation, edit.threshold, units.layer)
        after = torch.where(is_open.unsqueeze(1), after, before)
    return activation.index_copy(1, index, after)


def unit_amounts(edit: LayerEdit, like: Tensor) -> Tensor | None:
    """The strength of each unit, (len(units),), in the type of `like`; None is one for all."""
    if edit.unit_strengths is None:
        return None
    dtype = torch.promote_types(like.dtype, torch.float32)
    factors = torch.tensor(edit.unit_strengths, dtype=dtype)
    return (edit.strength * factors).clamp(max=2).to(like)


def edit_amounts(edit: LayerEdit) -> Tensor:
    """The strength of each unit, (len(units),)."""
    amounts = unit_amounts(edit, torch.empty(0))
    return torch.full((len(edit.units),), float(edit.strength)) if amounts is None else amounts


def unit_levels(edit: LayerEdit) -> Tensor | None:
    """What the units become, (len(units),); None is zero."""
    if not isinstance(edit.replacement, Tensor):
        return None
    if edit.units.directions is not None:
        return edit.replacement
    return edit.replacement[list(edit.units.indices)]
