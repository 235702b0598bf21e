"""Rows of images with a name before each row, in blocks that fit a page."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dissect._utils.errors import DissectError

__all__ = ["SheetStyle", "labelled_rows"]

INK, PAPER, FAINT = (34, 34, 34), (255, 255, 255), (110, 110, 110)


@dataclass(frozen=True)
class SheetStyle:
    """Measures of a sheet, in pixels of the picture."""

    scale: int = 3  # enlargement of each image, nearest neighbour
    gap: int = 4  # between two images
    block_gap: int = 26  # between two blocks of rows
    margin: int = 18
    text: int = 22  # height of the letters


def labelled_rows(
    rows: Mapping[str, NDArray[np.uint8]],
    *,
    columns: int = 12,
    caption: str = "",
    style: SheetStyle | None = None,
) -> Image.Image:
    """One picture in which column i of every row is the same thing in another state.

    Laid out as Figure 6 of Radford et al. (2015): the rows stand below one another. Where there
    are more images than `columns`, further blocks of the same rows follow.

    Args:
        rows: by name, (N, H, W, 3) uint8, all of one shape. A line break in a name is kept.
        columns: images in a row of a block.
        caption: a line above everything.
        style: measures; None is the house's.

    Raises:
        DissectError: no rows, or rows of different shapes.
    """
    shapes = {images.shape for images in rows.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 4 or not next(iter(shapes))[0]:
        raise DissectError("a sheet needs rows of images of one shape (N, H, W, 3)")
    measures = style or SheetStyle()
    count, height, width, _ = shapes.pop()
    columns = min(columns, count)
    font = ImageFont.load_default(measures.text)
    scratch = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    names_width = max(scratch.multiline_textbbox((0, 0), name, font, spacing=6)[2] for name in rows)
    left = measures.margin + int(names_width) + measures.margin
    top = measures.margin + (measures.text * 2 if caption else 0)
    cell_width = width * measures.scale + measures.gap
    cell_height = height * measures.scale + measures.gap
    blocks = -(-count // columns)
    block_height = len(rows) * cell_height - measures.gap + measures.block_gap
    page = Image.new(
        "RGB",
        (
            left + columns * cell_width - measures.gap + measures.margin,
            top + blocks * block_height - measures.block_gap + measures.margin,
        ),
        PAPER,
    )
    draw = ImageDraw.Draw(page)
    if caption:
        draw.text((measures.margin, measures.margin), caption, FAINT, font)
    for block in range(blocks):
        for place, (name, images) in enumerate(rows.items()):
            y = top + block * block_height + place * cell_height
            middle = y + height * measures.scale // 2
            draw.multiline_text((measures.margin, middle), name, INK, font, anchor="lm", spacing=6)
            shown = images[block * columns : (block + 1) * columns]
            for column, pixels in enumerate(shown):
                large = Image.fromarray(pixels).resize(
                    (width * measures.scale, height * measures.scale), Image.Resampling.NEAREST
                )
                page.paste(large, (left + column * cell_width, y))
    return page
