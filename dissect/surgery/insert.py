"""A concept put in: what units it takes, how strongly they fire, and where.

    window = insertion(acts, coverage, layer="layer8x8", concept="window")
    with inserted(G, window.units, where=region, values=window.values):
        after = G(z)                              # a window in the region
    door = swap(window_units, insertion(acts, doors, layer="layer8x8"))
    with inserted(G, door.units, where=window_probe, values=door.values):
        after = G(z)                              # doors where windows were

Bau et al. (2019, GAN Dissection) draw doors so: a few units set to a high constant at a place.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.surgery.ablate import ablated
from dissect.surgery.gates import Gate
from dissect.units import Units, parse_rule, rank_units

__all__ = ["Insertion", "inserted", "insertion", "swap"]


@dataclass(frozen=True, eq=False)
class Insertion:
    """The units that put a concept in, and the level of every unit of the layer where it is.

    Attributes:
        units: which units are set.
        levels: (C,), what each unit of the layer is set to where it is one of them.
    """

    units: Units
    levels: Tensor

    @property
    def values(self) -> Tensor:
        """What the units are set to, (len(units),), in their order."""
        return self.levels[list(self.units.indices)]

    def random(self, seed: int = 0) -> "Insertion":
        """The control: as many random units of the layer, each at its own level."""
        drawn = replace(self.units.random(seed), concept=self.units.concept)
        return replace(self, units=drawn)


def insertion(
    activations: Tensor,
    coverage: Tensor,
    *,
    layer: str,
    concept: str = "",
    model: str | None = None,
    k: int = 64,
    level: float = 0.95,
    inside: float = 0.75,
) -> Insertion:
    """What puts a concept in: the `k` units that rise most where it is, at a high, typical level.

    A unit's rise is its mean over the concept's cells, less its mean over cells of the same
    position without any of the concept, in standard deviations: without the comparison at the same
    position, units of the floor would count for whatever stands on it. Its level is a quantile over
    the concept's cells (GAN Dissection, Bau et al. 2019, also inserts one constant a unit).

    Args:
        activations: (N, C, H, W) of one layer on N images.
        coverage: (N, H, W) in [0, 1], how much of each cell is the concept.
        layer: its name.
        concept: its name.
        model: the generator's fingerprint.
        k: how many units; fewer where fewer rise.
        level: the quantile, in [0, 1].
        inside: the coverage from which a cell is one of the concept's, in (0, 1].

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
    return Insertion(units, levels)


def inserted(
    model: nn.Module,
    units: Units,
    *,
    where: "Gate | Tensor | Literal['everywhere'] | None" = None,
    values: "Tensor | Iterable[float]",
    threshold: float = 0.5,
) -> AbstractContextManager[None]:
    """A context manager in which the units have these values where the gate is open.

    `bake(model, units, where=..., replacement=values)` writes the same into a network.

    Args:
        model: in evaluation mode.
        units: of one layer.
        where: as `ablated` takes it: a region (H, W) of the layer's grid, a region a sample
            (N, H, W), or a probe.
        values: (len(units),), what they are set to, such as `Insertion.values`.
        threshold: in [0, 1).

    Raises:
        DissectError: as `ablated`.
    """
    if not isinstance(values, Tensor):
        values = torch.tensor(list(values), dtype=torch.float32)
    return ablated(model, units, where=where, threshold=threshold, replacement=values)


def swap(removed: Units, put: Insertion) -> Insertion:
    """One concept's units at 0 and another's at their levels, to be inserted where the first is.

    A unit of both is put in.

    Raises:
        DissectError: units of different layers.
    """
    if (removed.layer, removed.total) != (put.units.layer, put.units.total):
        raise DissectError(
            f"units of {removed.layer!r} cannot be swapped for units of {put.units.layer!r}: "
            "choose both on one layer"
        )
    gone = [unit for unit in removed.indices if unit not in put.units.indices]
    units = Units(
        layer=removed.layer,
        indices=(*put.units.indices, *gone),
        total=removed.total,
        concept=put.units.concept,
        rule=f"{removed.rule or 'chosen'} for {put.units.rule or 'chosen'}",
        model=removed.model,
    )
    levels = put.levels.clone()
    levels[gone] = 0.0
    return Insertion(units, levels)
