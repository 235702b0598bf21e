"""Images that share a code, side by side for the eye."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dissect._utils.errors import DissectError
from dissect.figures.sheet import FAINT, INK, PAPER

__all__ = ["collision_sheet"]

_SCALE, _GAP, _MARGIN, _TEXT, _BLOCK_GAP = 2, 4, 18, 18, 40


def collision_sheet(
    groups: Sequence[tuple[Sequence[int], NDArray[np.uint8]]],
    *,
    caption: str,
    columns: int = 2,
    most: int = 5,
) -> Image.Image:
    """One picture in which each row is a group: the image that is kept, then its duplicates.

    Args:
        groups: the places of a group's images in the source, and the images (K, H, W, 3) uint8.
        caption: a line above everything.
        columns: groups side by side.
        most: images shown of a group; how many more there are is said.

    Raises:
        DissectError: no groups.
    """
    if not groups:
        raise DissectError("there are no collisions to show")
    height, width = groups[0][1].shape[1:3]
    cell_width, cell_height = width * _SCALE + _GAP, height * _SCALE + _GAP
    font = ImageFont.load_default(_TEXT)
    number = int(font.getlength("00000000"))
    block = number + most * cell_width + int(font.getlength("+ 000")) + _BLOCK_GAP
    rows = -(-len(groups) // columns)
    top = _MARGIN + 2 * _TEXT
    page = Image.new(
        "RGB",
        (_MARGIN + columns * block - _BLOCK_GAP + _MARGIN, top + rows * cell_height + _MARGIN),
        PAPER,
    )
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, _MARGIN), caption, INK, font)
    for index, (places, images) in enumerate(groups):
        left = _MARGIN + (index % columns) * block
        y = top + (index // columns) * cell_height
        middle = y + height * _SCALE // 2
        draw.text((left, middle), str(places[0]), FAINT, font, anchor="lm")
        for column, pixels in enumerate(images[:most]):
            large = Image.fromarray(pixels).resize(
                (width * _SCALE, height * _SCALE), Image.Resampling.NEAREST
            )
            page.paste(large, (left + number + column * cell_width, y))
        if len(images) > most:
            end = left + number + most * cell_width
            draw.text((end, middle), f"+ {len(places) - most}", FAINT, font, anchor="lm")
    return page
