"""Networks that read images: segmenters give a class for every pixel, readers give attributes."""

from dissect.segmentation.attribute_network import (
    AttributeNetwork,
    load_attribute_network,
    save_attribute_network,
)
from dissect.segmentation.attribute_reader import AttributeReader
from dissect.segmentation.evaluate import (
    BoxMatch,
    evaluate_on_boxes,
    evaluate_on_renders,
    intersection_over_union,
)
from dissect.segmentation.evaluate_attributes import AttributeErrors, evaluate_attributes
from dissect.segmentation.pseudo_labels import ConceptLabels, pseudo_label
from dissect.segmentation.realism import Realism
from dissect.segmentation.registry import load_segmenter
from dissect.segmentation.segmenter import Segmenter
from dissect.segmentation.transformers import ADE20K_WORDS, from_transformers
from dissect.segmentation.unet import UNet, load_unet, save_unet

__all__ = [
    "ADE20K_WORDS",
    "AttributeErrors",
    "AttributeNetwork",
    "AttributeReader",
    "BoxMatch",
    "ConceptLabels",
    "Realism",
    "Segmenter",
    "UNet",
    "evaluate_attributes",
    "evaluate_on_boxes",
    "evaluate_on_renders",
    "from_transformers",
    "intersection_over_union",
    "load_attribute_network",
    "load_segmenter",
    "load_unet",
    "pseudo_label",
    "save_attribute_network",
    "save_unet",
]
