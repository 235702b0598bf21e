"""What is done to units of one layer, without what can be done with that."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect.surgery.gates import Gate, MaskGate
from dissect.units import Units

__all__ = ["LayerEdit"]


@dataclass(frozen=True, eq=False, repr=False)
class LayerEdit:
    """The values of an edit of one layer; `Intervention` says what they are."""

    units: Units
    gate: Gate | None = None
    region: Tensor | None = None
    threshold: float = 0.5
    strength: float = 1.0
    unit_strengths: tuple[float, ...] | None = None
    replacement: "Literal['zero'] | Tensor" = "zero"

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 2:
            raise DissectError(f"strength must be from 0 to 2, not {self.strength:g}")
        if not 0 <= self.threshold < 1:
            raise DissectError(f"threshold must be at least 0 and below 1, not {self.threshold:g}")
        strengths = self.unit_strengths
        if strengths is not None and len(strengths) != len(self.units):
            raise DissectError(
                f"unit_strengths needs one value for each of the {len(self.units)} units, not "
                f"{len(strengths)}"
            )
        if not all(0 <= strength <= 2 for strength in strengths or ()):
            raise DissectError("every unit's strength must be from 0 to 2")
        if self.gate is not None and not isinstance(self.gate, Gate):
            raise DissectError(f"a gate has a method 'probability'; {self.gate!r} has none")
        layer, own = getattr(self.gate, "layer", None), self.units.layer
        if layer is not None and layer != own:
            raise DissectError(
                f"the probe reads {layer!r} and the units are of {own!r}: fit one on that layer"
            )
        values = self.replacement
        if not isinstance(values, Tensor):
            if values != "zero":
                raise DissectError(f"replacement={values!r} is not known: use 'zero' or a tensor")
            return
        expected = self.units.total if self.units.directions is None else len(self.units)
        if values.shape != (expected,):
            raise DissectError(
                f"an intervention's replacement needs a value for each of the {expected} "
                f"units of {own!r}, not the shape {tuple(values.shape)}"
            )
        if not torch.isfinite(values).all():
            raise DissectError("the values of a replacement must be finite numbers")

    @property
    def text(self) -> str:
        """The units, and what is not the default, in words."""
        facts = [self.units.text]
        if self.gate is not None:
            facts.append(f"gate={type(self.gate).__name__}, threshold={self.threshold:g}")
        if self.region is not None:
            facts.append("in a region")
        if self.unit_strengths is not None:
            facts.append("each at its own strength")
        elif self.strength != 1:
            facts.append(f"strength={self.strength:g}")
        if isinstance(self.replacement, Tensor):
            facts.append("each at its own level")
        return ", ".join(facts)

    @property
    def where(self) -> Gate | Tensor | None:
        """What opens the edit: the gate, the region, or the gate times the region."""
        if self.region is None or self.gate is None:
            return self.region if self.gate is None else self.gate
        return MaskGate(self.region, self.gate)
