"""Sets of units, and the rules that rank them."""

from dissect.units.directions import Directions
from dissect.units.rules import RULES, Rule, parse_rule, rank_units
from dissect.units.units import Units, UnitsFile

__all__ = ["RULES", "Directions", "Rule", "Units", "UnitsFile", "parse_rule", "rank_units"]
