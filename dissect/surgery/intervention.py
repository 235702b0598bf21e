"""An edit as a value: which units, where, how much. It can be named, varied and repeated."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.surgery import Gate, ablated
from dissect.units import Units

__all__ = ["Intervention"]


@dataclass(frozen=True, eq=False)
class Intervention:
    """What is done to units of one layer; `applied` does it to a model for a while.

    Attributes:
        units: which ones, best first.
        gate: where the edit acts: None is everywhere (the paper), a `Gate` such as the probe only
            at the cells whose probability is above `threshold`.
        threshold: in [0, 1).
        strength: from 0 (untouched) through 1 (gone) to 2 (sign turned).
        replacement: what a removed unit becomes: `zero`, or (units.total,), a value for each unit
            of the layer, so that the control has its own.
        doses: a factor of the strength for each of the units, in their order, where they have one
            of their own; no unit's strength is above 2. A control has the same, in the same order.

    Raises:
        DissectError: a threshold, a strength or a dose out of its range, a replacement or doses of
            another size.
    """

    units: Units
    gate: Gate | None = None
    threshold: float = 0.5
    strength: float = 1.0
    replacement: "Literal['zero'] | Tensor" = "zero"
    doses: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 2:
            raise DissectError(f"strength must be from 0 to 2; got {self.strength:g}")
        if not 0 <= self.threshold < 1:
            raise DissectError(f"threshold must be in [0, 1); got {self.threshold:g}")
        if isinstance(self.replacement, Tensor) and self.replacement.shape != (self.units.total,):
            raise DissectError(
                f"an intervention's replacement needs a value for each of the {self.units.total} "
                f"units of {self.units.layer!r}, not the shape {tuple(self.replacement.shape)}"
            )
        if self.doses is not None:
            if len(self.doses) != len(self.units):
                raise DissectError(
                    f"an intervention needs a dose for each of its {len(self.units)} units, not "
                    f"{len(self.doses)}"
                )
            if not all(0 <= dose <= 2 for dose in self.doses):
                raise DissectError("doses must be from 0 to 2")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `ablated`, and of `bake`, beside the model and the units."""
        replacement = self.replacement
        if isinstance(replacement, Tensor):
            replacement = replacement[list(self.units.indices)]
        strength: float | Tensor = self.strength
        if self.doses is not None:
            strength = (self.strength * torch.tensor(self.doses)).clamp(max=2)
        return {
            "where": self.gate,
            "threshold": self.threshold,
            "strength": strength,
            "replacement": replacement,
        }

    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        """A context manager in which `model` is edited so (see `ablated`)."""
        return ablated(model, self.units, **self.arguments)

    def strongest(self, k: int) -> "Intervention":
        """The same edit of the `k` best units.

        Raises:
            DissectError: `k` below 1 or above their number.
        """
        if k == len(self.units):
            return self
        units, doses = self.units.top(k), self.doses
        if doses is not None:
            of_unit = dict(zip(self.units.indices, doses, strict=True))
            doses = tuple(of_unit[unit] for unit in units.indices)
        return replace(self, units=units, doses=doses)

    def at(self, strength: float) -> "Intervention":
        """The same edit at another strength; doses go with it."""
        return replace(self, strength=strength)

    def control(self, seed: int) -> "Intervention":
        """The same edit, doses and all, of as many random units (see `Units.random`)."""
        return replace(self, units=self.units.random(seed))
