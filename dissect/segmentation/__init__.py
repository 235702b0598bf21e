"""Networks that read images: segmenters give a class for every pixel, readers give attributes."""

from dissect.segmentation.attribute_network import AttributeNetwork
from dissect.segmentation.attribute_reader import AttributeReader, load_attributes, save_attributes
from dissect.segmentation.evaluate import BoxScore, box_score, intersection_over_union, render_score
from dissect.segmentation.evaluate_attributes import HeldOut, held_out
from dissect.segmentation.realism import Realism
from dissect.segmentation.registry import open_segmenter
from dissect.segmentation.segmenter import Segmenter, load_segmenter, save_segmenter
from dissect.segmentation.transformers import ADE20K_WORDS, from_transformers
from dissect.segmentation.unet import UNet

__all__ = [
    "ADE20K_WORDS",
    "AttributeNetwork",
    "AttributeReader",
    "BoxScore",
    "HeldOut",
    "Realism",
    "Segmenter",
    "UNet",
    "box_score",
    "from_transformers",
    "held_out",
    "intersection_over_union",
    "load_attributes",
    "load_segmenter",
    "open_segmenter",
    "render_score",
    "save_attributes",
    "save_segmenter",
]
