"""Samples with the boxes that were drawn on them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from dissect.annotations.boxes import Box

__all__ = ["boxes_sheet", "annotation_sheet"]

YELLOW, INK, PAPER, TICK = (255, 212, 0), (34, 34, 34), (255, 255, 255), (120, 120, 120)


def boxes_sheet(
    images: NDArray[np.uint8],
    boxes: Sequence[Sequence["Box"]],
    names: Sequence[str],
    *,
    columns: int = 15,
    scale: int = 2,
) -> Image.Image:
    """Every sample with its boxes and its name below, row by row.

    Args:
        images: (N, H, W, 3) uint8.
        boxes: of each image, in its pixels.
        names: of each image.
        columns: samples in a row.
        scale: enlargement, a whole number (nearest neighbour).
    """
    _, height, width, _ = images.shape
    font = ImageFont.load_default(11)
    cell_width, cell_height = width * scale + 6, height * scale + 18
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * cell_width + 6, rows * cell_height + 6), PAPER)
    draw = ImageDraw.Draw(page)
    for place, (image, drawn, name) in enumerate(zip(images, boxes, names, strict=True)):
        left, top = 6 + (place % columns) * cell_width, 6 + (place // columns) * cell_height
        large = Image.fromarray(image).resize(
            (width * scale, height * scale), Image.Resampling.NEAREST
        )
        page.paste(large, (left, top))
        draw.text((left, top + height * scale + 1), name, INK, font)
        for box in drawn:
            corners = (box.x, box.y, box.right, box.bottom)
            x0, y0, x1, y1 = (round(value * scale) for value in corners)
            draw.rectangle((left + x0, top + y0, left + x1 - 1, top + y1 - 1), None, YELLOW, 1)
    return page


def annotation_sheet(
    images: NDArray[np.uint8], names: Sequence[str], *, columns: int = 4, scale: int = 6
) -> Image.Image:
    """Enlarged samples with rulers in pixels, on which boxes are read off by eye.

    Ticks stand every 2 pixels, longer and numbered every 8; faint lines cross the image at the
    numbers.

    Args:
        images: (N, H, W, 3) uint8.
        names: of each image.
        columns: samples in a row.
        scale: enlargement, a whole number (nearest neighbour).
    """
    _, height, width, _ = images.shape
    font = ImageFont.load_default(13)
    margin = 26
    cell_width, cell_height = width * scale + margin + 12, height * scale + margin + 22
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * cell_width, rows * cell_height), PAPER)
    for place, (image, name) in enumerate(zip(images, names, strict=True)):
        left = (place % columns) * cell_width + margin
        top = (place // columns) * cell_height + margin + 16
        large = Image.fromarray(image).resize(
            (width * scale, height * scale), Image.Resampling.NEAREST
        )
        page.paste(_with_lines(large, scale), (left, top))
        draw = ImageDraw.Draw(page)
        draw.text((left, top - margin - 15), name, INK, font)
        for pixel in range(0, max(height, width) + 1, 2):
            long = 9 if pixel % 8 == 0 else 4
            at = pixel * scale
            if pixel <= width:
                draw.line((left + at, top - long, left + at, top - 1), TICK)
            if pixel <= height:
                draw.line((left - long, top + at, left - 1, top + at), TICK)
            if pixel % 8 == 0:
                if pixel <= width:
                    draw.text((left + at, top - 10), str(pixel), INK, font, anchor="mb")
                if pixel <= height:
                    draw.text((left - 10, top + at), str(pixel), INK, font, anchor="rm")
    return page


def _with_lines(large: Image.Image, scale: int) -> Image.Image:
    lines = Image.new("L", large.size, 0)
    draw = ImageDraw.Draw(lines)
    for pixel in range(8, max(large.size) // scale, 8):
        draw.line((pixel * scale, 0, pixel * scale, large.height), 60)
        draw.line((0, pixel * scale, large.width, pixel * scale), 60)
    return Image.composite(Image.new("RGB", large.size, YELLOW), large, lines)
