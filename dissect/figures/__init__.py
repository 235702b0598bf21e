"""Every picture. Functions return PIL images or matplotlib figures; none writes a file."""

from dissect.figures.boxes import annotation_sheet, boxes_sheet
from dissect.figures.effect import effect_figure, effect_sheet
from dissect.figures.guided import concepts_figure, guided_sheet, signed_images
from dissect.figures.placement import placement_figure, replacement_figure
from dissect.figures.probe import layer_scores_figure, probe_figure
from dissect.figures.rules import rules_figure
from dissect.figures.sheet import SheetStyle, labelled_rows
from dissect.figures.style import rasterized
from dissect.figures.units_page import units_page

__all__ = [
    "SheetStyle",
    "replacement_figure",
    "boxes_sheet",
    "concepts_figure",
    "effect_figure",
    "effect_sheet",
    "guided_sheet",
    "labelled_rows",
    "layer_scores_figure",
    "placement_figure",
    "probe_figure",
    "rasterized",
    "annotation_sheet",
    "rules_figure",
    "signed_images",
    "units_page",
]
