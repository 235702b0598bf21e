"""Network dissection: what every unit of a layer answers to, by streaming statistics."""

from dissect.dissection.concepts import ConceptCounts, Cuts
from dissect.dissection.result import DETECTOR, Dissection, LayerUnits
from dissect.dissection.running import RunningMoments, RunningQuantile, RunningTopK
from dissect.dissection.strongest import StrongestSamples, strongest_samples
from dissect.dissection.study import count_units, dissect_units, steps, unit_levels

__all__ = [
    "DETECTOR",
    "ConceptCounts",
    "Cuts",
    "Dissection",
    "LayerUnits",
    "RunningMoments",
    "RunningQuantile",
    "RunningTopK",
    "StrongestSamples",
    "count_units",
    "dissect_units",
    "steps",
    "strongest_samples",
    "unit_levels",
]
