"""Sets of units, and the rules that rank them."""

from dissect.units.units import Rule, Units, UnitsFile, parse_rule, rank_units

__all__ = ["Rule", "Units", "UnitsFile", "parse_rule", "rank_units"]
