"""Walks, vector arithmetic and turns, laid out as in Radford et al. (2015), Figures 4, 7 and 8."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.images import image_grid
from dissect.figures.style import LINES, mpl_style, rasterized

__all__ = ["ConceptColumn", "arithmetic_figure", "contact_sheet", "turn_figure", "walk_figure"]

Images = NDArray[np.uint8]
INK, PAPER, FAINT, SIGN = (34, 34, 34), (255, 255, 255), (110, 110, 110), (89, 89, 89)
_TEXT = 20


@dataclass(frozen=True, repr=False)
class ConceptColumn(ShortRepr):
    """One concept of an arithmetic figure.

    Attributes:
        name: the concept.
        sign: in front of it: "", "+", "-", or with a factor, "+ x 2".
        exemplars: the images of up to five exemplars, (K, H, W, 3) uint8.
        mean: the image of the exemplars' mean latent, (H, W, 3).
        pixel_mean: the mean of their images, (H, W, 3).
    """

    name: str
    sign: str
    exemplars: Images
    mean: Images
    pixel_mean: Images


def arithmetic_figure(
    columns: Sequence[ConceptColumn],
    block: Images,
    pixel_result: Images,
    *,
    result: str,
    scale: int | None = None,
) -> Image.Image:
    """Exemplars above their means, signs between them, and the result with its neighbours.

    The same sum in pixel space is below (Radford et al. 2015, Figure 7).

    Args:
        columns: the concepts, in the order of the sum.
        block: the result, in the middle, and its neighbours, row by row: (9, H, W, 3).
        pixel_result: (H, W, 3).
        result: the caption of the result.
        scale: of the images; None makes them about 128 pixels wide.
    """
    side = columns[0].mean.shape[0] * (scale or _scale(columns[0].mean.shape[0]))
    gap, sign_width, margin, bracket = 4, 76, 24, 34
    shown = max(len(column.exemplars) for column in columns)
    tall = shown * (side + gap)
    font = ImageFont.load_default(_TEXT)
    width = margin * 2 + len(columns) * (side + sign_width) + 3 * side + 2 * gap
    top = margin
    means_at = top + tall + bracket
    names_at = means_at + side + 10
    below_at = names_at + 3 * (_TEXT + 8) + 16
    page = Image.new("RGB", (width, below_at + side + 2 * _TEXT + margin), PAPER)
    draw = ImageDraw.Draw(page)

    def put(pixels: Images, x: int, y: int) -> None:
        large = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
        page.paste(large, (x, y))

    x = margin
    for index, column in enumerate(columns):
        if index or column.sign == "-":
            for y in (means_at, below_at):
                _operator(draw, column.sign, x - sign_width // 2, y + side // 2, font)
        for row, image in enumerate(column.exemplars):
            put(image, x, top + row * (side + gap) + (shown - len(column.exemplars)) * (side + gap))
        _bracket(draw, x, means_at - bracket + 6, side)
        put(column.mean, x, means_at)
        put(column.pixel_mean, x, below_at)
        _words(draw, column.name, x + side // 2, names_at, side + sign_width - 12, font)
        x += side + sign_width
    for y in (means_at, below_at):
        _operator(draw, "=", x - sign_width // 2, y + side // 2, font)
    for index, image in enumerate(block):
        row, across = divmod(index, 3)
        put(image, x + across * (side + gap), means_at - (2 - row) * (side + gap))
    middle = x + (3 * side + 2 * gap) // 2
    _words(draw, result, middle, names_at, 3 * side, font)
    put(pixel_result, x + side + gap, below_at)
    draw.text((middle, below_at + side + 8), "the same in pixel space", FAINT, font, anchor="mt")
    return page


def turn_figure(
    first: Images,
    last: Images,
    rows: Images,
    *,
    first_name: str,
    last_name: str,
    scale: int | None = None,
) -> Image.Image:
    """Samples moved along an axis, below its two ends (Radford et al. 2015, Figure 8).

    Args:
        first, last: (H, W, 3), images of the means of the exemplars at both ends.
        rows: (N, P, H, W, 3), P odd; the middle column has the samples themselves.
        first_name, last_name: the captions of the ends.
        scale: of the images; None makes them about 128 pixels wide.

    Raises:
        DissectError: rows of another shape.
    """
    if rows.ndim != 5 or not len(rows) or rows.shape[1] % 2 == 0:
        raise DissectError(f"a turn's rows have shape (N, P, H, W, 3), P odd; got {rows.shape}")
    count, positions, height, width, _ = rows.shape
    enlarged = scale or _scale(width)
    side, tall = width * enlarged, height * enlarged
    margin, space = 18, 30
    grid_at = margin + tall + _TEXT + space
    page = Image.new("RGB", (2 * margin + positions * side, grid_at + count * tall + margin), PAPER)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(_TEXT)
    right = margin + (positions - 1) * side
    for pixels, name, x in ((first, first_name, margin), (last, last_name, right)):
        page.paste(
            Image.fromarray(pixels).resize((side, tall), Image.Resampling.NEAREST), (x, margin)
        )
        # On one base line, whatever the letters.
        anchor, edge = ("ls", x) if x == margin else ("rs", x + side)
        draw.text((edge, margin + tall + _TEXT + 4), name, INK, font, anchor)
    y, start, end = margin + tall // 2, margin + side + 6, right - 40
    for x in range(start, end - 10, 44):
        draw.line((x, y, min(x + 26, end), y), SIGN, 5)
    draw.polygon(((right - 40, y - 11), (right - 40, y + 11), (right - 4, y)), SIGN)
    for row in range(count):
        for column in range(positions):
            large = Image.fromarray(rows[row, column]).resize(
                (side, tall), Image.Resampling.NEAREST
            )
            page.paste(large, (margin + column * side, grid_at + row * tall))
    for edge in (positions // 2, positions // 2 + 1):
        x = margin + edge * side
        draw.line((x, grid_at, x, grid_at + count * tall), (0, 0, 0), 3)
    return page


def walk_figure(
    rows: Images, curves: Mapping[str, NDArray[np.floating]] | None = None
) -> Image.Image:
    """Rows of images between points in latent space, with a curve of each concept beside them.

    Figure 4 of Radford et al. (2015) shows the rows.

    Args:
        rows: (N, P, H, W, 3).
        curves: for each of at most `len(LINES)` concepts, its amount along each row, (N, M). It is
            drawn relative to its largest value, which the legend gives. None draws no curves.
    """
    count, columns = rows.shape[:2]
    scale = 2
    grid = image_grid(rows.reshape(-1, *rows.shape[2:]), columns=columns, scale=scale)
    if not curves:
        return grid
    from matplotlib.figure import Figure

    head, wide, dots = 64, 420, 120
    styled = list(zip(curves.items(), LINES, strict=False))
    pitch = (rows.shape[2] + 1) * scale
    with mpl_style():
        figure = Figure(figsize=(wide / dots, (grid.height + head) / dots), dpi=dots)
        figure.set_layout_engine("none")  # positions are given
        tops = {name: max(float(values.max()), 0.001) for name, values in curves.items()}
        whole = grid.height + head
        for row in range(count):
            bottom = grid.height - row * pitch - rows.shape[2] * scale
            place = (0.06, (bottom + 8) / whole, 0.92, (rows.shape[2] * scale - 16) / whole)
            axes = figure.add_axes(place)
            for (name, values), colour in styled:
                x, label = np.linspace(0, 1, values.shape[1]), f"{name}, to {tops[name]:.2g}"
                axes.plot(x, values[row] / tops[name], color=colour, label=label, linewidth=1.6)
            axes.set(xlim=(0, 1), ylim=(-0.05, 1.1), xticks=[], yticks=[])
        lines, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(
            lines,
            labels,
            loc="upper center",
            ncols=2,
            fontsize=8,
            handlelength=1.2,
            labelspacing=0.2,
        )
        # The figure is rasterised at print resolution; the panel must be as tall as the grid.
        panel = rasterized(figure).resize((wide, whole), Image.Resampling.LANCZOS)
    page = Image.new("RGB", (grid.width + panel.width, grid.height + head), PAPER)
    page.paste(panel, (grid.width, 0))
    page.paste(grid, (0, head))
    return page


def contact_sheet(
    images: Images, *, start: int = 0, columns: int = 10, scale: int | None = None
) -> Image.Image:
    """Images with their numbers below them, from which exemplars are chosen by eye.

    Args:
        images: (N, H, W, 3) uint8.
        start: number of the first.
        columns: images in a row.
        scale: of the images; None makes them about 128 pixels wide.
    """
    count, height, width, _ = images.shape
    enlarged = scale or _scale(width)
    font = ImageFont.load_default(13)
    cell, tall = width * enlarged + 6, height * enlarged + 20
    page = Image.new("RGB", (cell * columns, tall * -(-count // columns)), PAPER)
    draw = ImageDraw.Draw(page)
    for index, pixels in enumerate(images):
        row, column = divmod(index, columns)
        large = Image.fromarray(pixels).resize(
            (width * enlarged, height * enlarged), Image.Resampling.NEAREST
        )
        page.paste(large, (column * cell + 3, row * tall))
        draw.text(
            (column * cell + cell // 2, row * tall + height * enlarged + 2),
            str(start + index),
            INK,
            font,
            anchor="mt",
        )
    return page


def _scale(width: int) -> int:
    return max(1, 128 // width)


def _operator(
    draw: ImageDraw.ImageDraw,
    sign: str,
    x: int,
    y: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    half, thick = 22, 6
    symbol, _, factor = sign.partition(" ")
    if symbol == "=":
        for offset in (-10, 10):
            draw.rectangle((x - half, y + offset - thick, x + half, y + offset + thick), SIGN)
    else:
        draw.rectangle((x - half, y - thick, x + half, y + thick), SIGN)
    if symbol == "+":
        draw.rectangle((x - thick, y - half, x + thick, y + half), SIGN)
    if factor:
        draw.text((x, y + half + 6), factor, INK, font, anchor="mt")


def _bracket(draw: ImageDraw.ImageDraw, x: int, y: int, width: int) -> None:
    draw.line((x + 1, y, x + 1, y + 8, x + width - 2, y + 8, x + width - 2, y), SIGN, 3)
    draw.line((x + width // 2, y + 8, x + width // 2, y + 18), SIGN, 3)


def _words(
    draw: ImageDraw.ImageDraw,
    text: str,
    x: int,
    y: int,
    width: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Text centred below an image, in as many lines as it needs."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    draw.multiline_text((x, y), "\n".join(lines), INK, font, anchor="ma", align="center")
