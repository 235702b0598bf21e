"""Units removed, replaced and put in: for a while with `ablated`, for good with `bake`."""

from dissect.surgery.ablate import ablated, mean_activation
from dissect.surgery.bake import bake
from dissect.surgery.excise import excise
from dissect.surgery.gates import Gate, LinearGate, MaskGate
from dissect.surgery.insert import Insertion, inserted, insertion, swap

__all__ = [
    "Gate",
    "Insertion",
    "LinearGate",
    "MaskGate",
    "ablated",
    "bake",
    "excise",
    "inserted",
    "insertion",
    "mean_activation",
    "swap",
]
