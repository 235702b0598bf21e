"""Figures of segmentations: classes in colour over images, and the IoU of each class."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dissect._utils.display import ShortRepr
from dissect._utils.images import image_grid
from dissect.figures.style import GREY, mpl_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dissect.annotations import Box

__all__ = ["SegmentationRow", "class_colours", "segmentation_figure", "overlay_classes"]

_SCALE = 3
_BOX = (255, 235, 0)
_COLOURS = {
    "wall": "#c9c5bb",
    "floor": "#a5673f",
    "ceiling": "#efece4",
    "window": "#1f9bff",
    "curtain": "#8f4fd0",
    "bed": "#d3302f",
    "pillow": "#ff8fb1",
    "lamp": "#ffc400",
    "door": "#e07b00",
    "picture": "#1e9e4a",
    "mirror": "#00b8a9",
    "wardrobe": "#2c3e72",
    "rug": "#8a9a1f",
    "furniture": "#5b4a42",
}


@dataclass(frozen=True, repr=False)
class SegmentationRow(ShortRepr):
    """A row of images with a name.

    Attributes:
        name: written to their left.
        images: (N, H, W, 3) uint8.
        labels: the class of every pixel (N, H, W), shown in colour over the images; None shows
            the images alone.
        boxes: the boxes of each image, drawn in yellow.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.integer] | None = None
    boxes: Sequence[Sequence["Box"]] = field(default=())


def class_colours(classes: Sequence[str]) -> NDArray[np.uint8]:
    """A colour for each class, (K, 3) uint8: fixed for the rendered classes, spread for others."""
    colours = []
    for index, name in enumerate(classes):
        if name in _COLOURS:
            colours.append([int(_COLOURS[name][k : k + 2], 16) for k in (1, 3, 5)])
        else:
            # The golden ratio keeps neighbours apart however many classes there are.
            hue, light = index * 0.618034 % 1, (0.45, 0.65)[index % 2]
            colours.append([round(255 * part) for part in colorsys.hls_to_rgb(hue, light, 0.6)])
    return np.array(colours, np.uint8)


def overlay_classes(
    images: NDArray[np.uint8], labels: NDArray[np.integer], classes: Sequence[str]
) -> NDArray[np.uint8]:
    """`images` (N, H, W, 3) in pale grey, tinted with the colours of their classes."""
    grey = images.mean(3, keepdims=True)
    mixed = 0.35 * grey + 0.65 * class_colours(classes)[labels]
    tinted: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return tinted


def segmentation_figure(
    rows: Sequence[SegmentationRow],
    classes: Sequence[str],
    scores: Mapping[str, float],
    *,
    columns: int = 12,
    title: str = "",
) -> "Figure":
    """The IoU of every class, in the colours that the rows of images beside it use.

    Args:
        rows: of images of one size; of each the first `columns` are shown.
        classes: in the order of the class numbers.
        scores: IoU by class, of those that were scored.
        columns: images in a row; where a row has fewer, the rest stays white.
        title: above the images.
    """
    from matplotlib.figure import Figure

    tiles = np.concatenate([_tiles(row, classes, columns) for row in rows])
    sheet = np.asarray(image_grid(tiles, columns=columns, scale=1, gap=2 * _SCALE))
    wide = 0.92 * columns
    high = wide * sheet.shape[0] / sheet.shape[1]
    with mpl_style():
        figure = Figure(figsize=(4.4 + wide, max(high + 0.5, 0.26 * len(scores) + 1.2)))
        left, right = figure.subplots(1, 2, width_ratios=(2.6, wide + 1.2))
        colours = dict(zip(classes, class_colours(classes) / 255, strict=True))
        _bars(left, scores, [colours[name] for name in scores])
        right.imshow(sheet, interpolation="antialiased")
        step = sheet.shape[0] / len(rows)
        right.set(xticks=[], yticks=[step * (row + 0.5) for row in range(len(rows))])
        right.set_yticklabels([row.name for row in rows])
        right.tick_params(length=0)
        for spine in right.spines.values():
            spine.set_visible(False)
        right.set_title(title)
        return figure


def _bars(axes: Any, scores: Mapping[str, float], colours: Sequence[Any]) -> None:
    values = list(scores.values())
    positions = np.arange(len(values))
    axes.barh(positions, values, 0.72, color=colours, edgecolor=GREY, linewidth=0.4)
    for position, value in zip(positions, values, strict=True):
        axes.text(value + 0.02, position, f"{value:.2f}", va="center", fontsize=8)
    axes.set(
        yticks=positions,
        yticklabels=list(scores),
        xlim=(0, 1.14),
        xlabel="IoU",
        title=f"Held-out renders: mean {np.nanmean(values):.3f}",
    )
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)


def _tiles(row: SegmentationRow, classes: Sequence[str], columns: int) -> NDArray[np.uint8]:
    """The images of a row, enlarged without interpolation, with their classes and boxes."""
    images = row.images if row.labels is None else overlay_classes(row.images, row.labels, classes)
    shown = images[:columns].repeat(_SCALE, 1).repeat(_SCALE, 2)
    tiles = np.full((columns, *shown.shape[1:]), 255, np.uint8)
    tiles[: len(shown)] = shown
    for index, boxes in enumerate(row.boxes[:columns]):
        picture = Image.fromarray(tiles[index])
        draw = ImageDraw.Draw(picture)
        for box in boxes:
            edges = (box.x, box.y, box.right, box.bottom)
            x0, y0, x1, y1 = (round(edge * _SCALE) for edge in edges)
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=_BOX, width=2)
        tiles[index] = np.asarray(picture)
    return tiles
