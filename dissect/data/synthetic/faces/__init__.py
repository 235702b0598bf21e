"""Procedural faces: turned heads with exact attributes, each fixed by its seed."""

from dissect.data.synthetic.faces.canvas import CLASSES
from dissect.data.synthetic.faces.person import ATTRIBUTES
from dissect.data.synthetic.faces.render import attributes, render

__all__ = ["ATTRIBUTES", "CLASSES", "attributes", "render"]
