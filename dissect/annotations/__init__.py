"""Boxes that people drew: COCO files in and out, and boxes as fractions of a grid's cells."""

from dissect.annotations.annotations import (
    Agreement,
    Annotations,
    annotation_file,
    pair_iou,
)
from dissect.annotations.boxes import AnnotatedImage, Box
from dissect.annotations.identity import matches_digest, pixels_digest

__all__ = [
    "Agreement",
    "AnnotatedImage",
    "Annotations",
    "Box",
    "annotation_file",
    "matches_digest",
    "pair_iou",
    "pixels_digest",
]
