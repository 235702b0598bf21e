"""Which units to choose: measured effects and the rules that rank by them."""

from dissect.selection.sweep import UnitEffects, unit_effects

__all__ = ["UnitEffects", "unit_effects"]
