"""Procedural bedrooms: small colour pictures with an exact class mask, each fixed by its seed."""

from dissect.data.synthetic.bedrooms.canvas import CLASSES
from dissect.data.synthetic.bedrooms.render import render

__all__ = ["CLASSES", "render"]
