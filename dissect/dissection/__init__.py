"""Network dissection: what every unit of a layer answers to, by streaming statistics."""

from dissect.dissection.running import RunningMoments, RunningQuantile, RunningTopK

__all__ = ["RunningMoments", "RunningQuantile", "RunningTopK"]
