"""Segmenters: images to the class of every pixel."""

from dissect.segment.network import UNet
from dissect.segment.segmenter import Segmenter, load_segmenter, save_segmenter

__all__ = ["Segmenter", "UNet", "load_segmenter", "save_segmenter"]
