"""Units removed, replaced and put in: for a while with `ablated`, for good with `bake`."""

from dissect.surgery.ablation import Gate, Within, ablated, mean_activation
from dissect.surgery.baking import bake
from dissect.surgery.excision import excise

__all__ = ["Gate", "Within", "ablated", "bake", "excise", "mean_activation"]
