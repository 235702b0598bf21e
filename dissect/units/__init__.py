"""Sets of units, and the rules that rank them."""

from dissect.units.units import Rule, Units, parse_rule, rank_units

__all__ = ["Rule", "Units", "parse_rule", "rank_units"]
