"""Procedural faces: turned heads with exact attributes, each fixed by its seed."""

from dissect.data.faces.canvas import CLASSES
from dissect.data.faces.person import ATTRIBUTES
from dissect.data.faces.render import attributes, render

__all__ = ["ATTRIBUTES", "CLASSES", "attributes", "render"]
