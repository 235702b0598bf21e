"""The logistic-regression probe of a layer, and its honest score."""

from dissect.probe.fit import fit_probe_from_boxes
from dissect.probe.probe import Probe, ProbeScore, ProbeSettings, fit_probe

__all__ = ["Probe", "ProbeScore", "ProbeSettings", "fit_probe", "fit_probe_from_boxes"]
