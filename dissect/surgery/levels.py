"""Which units rise where a concept is, and to what level."""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect.units import Units, parse_rule, rank_units

__all__ = ["rising_units", "swapped_units"]


def rising_units(
    activations: Tensor,
    coverage: Tensor,
    *,
    layer: str,
    concept: str,
    model: str | None,
    k: int,
    level: float,
    inside: float,
) -> tuple[Units, Tensor]:
    """The units that rise most where the concept is, and the level of every unit there, (C,).

    A unit's rise is how far its mean inside the concept is above its mean at the same positions
    without it, in standard deviations: without the comparison at the same position, units of the
    floor would count for whatever stands on it. Its level is a quantile over the concept's cells.
    `Intervention.insert` says what the arguments are.

    Raises:
        DissectError: shapes that do not match, fewer than 5 cells of the concept, none without, or
            a value out of its range.
    """
    if activations.ndim != 4 or coverage.shape != (len(activations), *activations.shape[2:]):
        raise DissectError(
            f"activations (N, C, H, W) and coverage (N, H, W) are of the same cells, not "
            f"{tuple(activations.shape)} and {tuple(coverage.shape)}"
        )
    if not 0 <= level <= 1 or not 0 < inside <= 1:
        raise DissectError("a level is in [0, 1], and `inside` is in (0, 1]")
    if not 1 <= k <= activations.shape[1]:
        raise DissectError(f"cannot take {k} units of {layer!r}, which has {activations.shape[1]}")
    cells = activations.detach().double().cpu().movedim(1, -1)
    cover = coverage.cpu()
    on, off = cover >= inside, cover == 0
    if int(on.sum()) < 5 or not bool(off.any()):
        raise DissectError(
            f"{int(on.sum())} cells of {layer!r} are at least {inside:g} {concept or 'concept'}, "
            f"and {int(off.sum())} have none of it: label more samples, or choose a finer layer"
        )
    # Positions that are never without the concept have only the mean of all others to compare.
    without = off.unsqueeze(-1)
    elsewhere = cells[off].mean(0)
    times = without.sum(0)
    usual = torch.where(
        times > 0, (cells * without).sum(0) / times.clamp(min=1), elsewhere.expand_as(cells[0])
    )
    rise = (cells - usual)[on].mean(0)
    spread = cells.flatten(0, 2).std(0)
    scores = torch.where(spread > 0, rise / spread.clamp(min=1e-12), torch.zeros(()).double())
    units = rank_units(
        scores.tolist(),
        layer=layer,
        rule=parse_rule(f"top:{k}"),
        keep=(scores > 0).tolist(),
        concept=concept or None,
        model=model,
    )
    units = replace(units, rule=f"rise:{k}")
    levels = torch.from_numpy(np.quantile(cells[on].numpy(), level, axis=0)).float()
    return units, levels


def swapped_units(
    removed: Units, put: Units, levels: Tensor | Literal["zero"]
) -> tuple[Units, Tensor]:
    """The units of both, and the level of every unit of the layer: 0 of those that are removed.

    Args:
        removed: the units of the concept that goes.
        put: the units of the concept that is put in; a unit of both is one of these.
        levels: (C,), of the units that are put in.

    Raises:
        DissectError: units of different layers, directions, or no levels.
    """
    if (removed.layer, removed.total) != (put.layer, put.total):
        raise DissectError(
            f"units of {removed.layer!r} cannot be swapped for units of {put.layer!r}: "
            "choose both on one layer"
        )
    if not isinstance(levels, Tensor):
        raise DissectError("a swap needs an edit that sets units to levels: Intervention.insert")
    if removed.directions is not None or put.directions is not None:
        raise DissectError("a swap sets channels to levels: give channels rather than directions")
    gone = [unit for unit in removed.indices if unit not in put.indices]
    units = Units(
        layer=removed.layer,
        indices=(*put.indices, *gone),
        total=removed.total,
        concept=put.concept,
        rule=f"{removed.rule or 'chosen'} for {put.rule or 'chosen'}",
        model=removed.model,
    )
    levels = levels.clone()
    levels[gone] = 0.0
    return units, levels
