"""Units removed, replaced and put in: for a while with `ablated`, for good with `bake`."""

from dissect.surgery.ablation import Gate, Within, ablated, mean_activation
from dissect.surgery.baking import bake
from dissect.surgery.excision import excise
from dissect.surgery.inserting import Insertion, inserted, insertion, swap

__all__ = [
    "Gate",
    "Insertion",
    "Within",
    "ablated",
    "bake",
    "excise",
    "inserted",
    "insertion",
    "mean_activation",
    "swap",
]
