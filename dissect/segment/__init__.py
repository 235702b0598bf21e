"""Segmenters: images to the class of every pixel."""

from dissect.segment.adapter import ADE20K_WORDS, from_transformers
from dissect.segment.check import BoxScore, box_score, intersection_over_union, render_score
from dissect.segment.network import UNet
from dissect.segment.opening import open_segmenter
from dissect.segment.segmenter import Segmenter, load_segmenter, save_segmenter

__all__ = [
    "ADE20K_WORDS",
    "BoxScore",
    "Segmenter",
    "UNet",
    "box_score",
    "from_transformers",
    "intersection_over_union",
    "load_segmenter",
    "open_segmenter",
    "render_score",
    "save_segmenter",
]
