"""Segmenters: images to the class of every pixel."""

from dissect.segment.check import BoxScore, box_score, render_score
from dissect.segment.network import UNet
from dissect.segment.segmenter import Segmenter, load_segmenter, save_segmenter

__all__ = [
    "BoxScore",
    "Segmenter",
    "UNet",
    "box_score",
    "load_segmenter",
    "render_score",
    "save_segmenter",
]
