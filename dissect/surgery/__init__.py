"""Units removed, replaced and put in: for a while with `ablated`, for good with `bake`."""

from dissect.surgery.ablation import Gate, Within, ablated, mean_activation
from dissect.surgery.baking import bake

__all__ = ["Gate", "Within", "ablated", "bake", "mean_activation"]
