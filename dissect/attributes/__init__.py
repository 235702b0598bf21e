"""Attributes: what a face shows, read from its picture."""

from dissect.attributes.check import HeldOut, held_out
from dissect.attributes.network import AttributeNetwork
from dissect.attributes.reader import AttributeReader, load_attributes, save_attributes
from dissect.attributes.realism import Realism

__all__ = [
    "AttributeNetwork",
    "AttributeReader",
    "HeldOut",
    "Realism",
    "held_out",
    "load_attributes",
    "save_attributes",
]
