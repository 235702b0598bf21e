"""Edits of a network's units: applied for a while, saved, and written in for good."""

from dissect.surgery.ablate import ablated, bake, inserted, mean_activation
from dissect.surgery.excise import excise
from dissect.surgery.gates import Gate, LinearGate, MaskGate
from dissect.surgery.intervention import Intervention

__all__ = [
    "Gate",
    "Intervention",
    "LinearGate",
    "MaskGate",
    "ablated",
    "bake",
    "excise",
    "inserted",
    "mean_activation",
]
