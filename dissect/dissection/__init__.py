"""Network dissection: what every unit of a layer answers to, by streaming statistics."""

from dissect.dissection.iou import ConceptCounts, Cuts
from dissect.dissection.result import DETECTOR, Dissection, LayerUnits
from dissect.dissection.single_unit import UnitEffects, unit_effects
from dissect.dissection.study import count_units, dissect_units, steps, unit_levels
from dissect.dissection.top_images import StrongestSamples, strongest_samples

__all__ = [
    "DETECTOR",
    "ConceptCounts",
    "Cuts",
    "Dissection",
    "LayerUnits",
    "StrongestSamples",
    "UnitEffects",
    "count_units",
    "dissect_units",
    "steps",
    "strongest_samples",
    "unit_effects",
    "unit_levels",
]
