"""Network dissection: what every unit of a layer answers to, by streaming statistics."""

from dissect.dissection.iou import ConceptCounts, Thresholds
from dissect.dissection.result import DETECTOR, Dissection, LayerUnits
from dissect.dissection.single_unit import UnitEffects, unit_effects
from dissect.dissection.study import activation_stats, count_units, network_dissection, steps
from dissect.dissection.top_images import TopImages, top_images

__all__ = [
    "DETECTOR",
    "ConceptCounts",
    "Thresholds",
    "Dissection",
    "LayerUnits",
    "TopImages",
    "UnitEffects",
    "count_units",
    "network_dissection",
    "steps",
    "top_images",
    "unit_effects",
    "activation_stats",
]
