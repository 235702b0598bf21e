"""Procedural bedrooms: small colour pictures with an exact class mask, each fixed by its seed."""

from dissect.data.bedrooms.canvas import CLASSES
from dissect.data.bedrooms.render import render

__all__ = ["CLASSES", "render"]
