"""What the features of a discriminator respond to, beside random filters."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dissect._utils.errors import DissectError
from dissect.figures.sheet import INK, PAPER
from dissect.figures.style import BLUE, GREY, ORANGE, mpl_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dissect.attribution.study import FeaturePictures

__all__ = ["concepts_figure", "guided_sheet", "signed_images"]

_YELLOW, _GROUND = (255, 212, 0), 128
_MARGIN, _TEXT, _GUTTER, _GAP = 18, 22, 14, 2


def guided_sheet(
    random: "FeaturePictures",
    trained: "FeaturePictures",
    *,
    notes: Sequence[str] = (),
    caption: str = "",
    scale: int = 2,
) -> Image.Image:
    """Guided gradients of random filters on the left, of trained ones on the right.

    Laid out as Figure 5 of Radford et al. (2015), a feature a row, with the images above their
    gradients and a frame around the cell of the layer's grid where the response is largest.
    Gradients are brightened alike within a feature; mid grey is 0.

    Args:
        random, trained: the features of the two networks, equal in number and size.
        notes: a line on each feature, on the right.
        caption: a line above everything.
        scale: enlargement, a whole number (nearest neighbour).

    Raises:
        DissectError: pictures of different shapes.
    """
    if random.images.shape != trained.images.shape:
        raise DissectError("both networks need as many features and images of one size")
    n_units, n, height, width, _ = trained.images.shape
    font, large = ImageFont.load_default(_TEXT), ImageFont.load_default(_TEXT + 6)
    scratch = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    names = [f"feature {unit}" for unit in trained.units]
    left = 2 * _MARGIN + max(int(scratch.textlength(name, font)) for name in names)
    texts = [*notes, *[""] * (n_units - len(notes))]
    widest = max(int(scratch.multiline_textbbox((0, 0), text, font)[2]) for text in texts)
    top = _MARGIN + (2 * _TEXT if caption else 0)
    half = n * width * scale + (n - 1) * _GAP
    row = 2 * height * scale + _GAP
    page_width = left + 2 * half + _GUTTER + _MARGIN + (widest + _MARGIN if widest else 0)
    page_height = top + n_units * (row + _GUTTER) + 2 * _TEXT + _MARGIN
    page = Image.new("RGB", (page_width, page_height), PAPER)
    draw = ImageDraw.Draw(page)
    if caption:
        draw.text((_MARGIN, _MARGIN), caption, INK, font)
    sides = ((left, random, "Random filters"), (left + half + _GUTTER, trained, "Trained filters"))
    for at in range(n_units):
        y = top + at * (row + _GUTTER)
        draw.text((_MARGIN, y + row // 2), names[at], INK, font, anchor="lm")
        note_xy = (left + 2 * half + _GUTTER + _MARGIN, y + row // 2)
        draw.multiline_text(note_xy, texts[at], INK, font, anchor="lm", spacing=6)
        for x, side, _ in sides:
            page.paste(_feature(side, at, scale), (x, y))
    for x, _, name in sides:
        xy = (x + half // 2, page_height - _MARGIN)
        draw.text(xy, name, INK, large, anchor="ms")
    return page


def signed_images(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Gradients (n, H, W, 3) as pictures: 0 is mid grey, one brightness for all of them."""
    # A few extreme pixels would leave everything else grey.
    strongest = float(np.quantile(np.abs(values), 0.998)) or 1.0
    levels = _GROUND + 127 * np.clip(values / strongest, -1, 1)
    pictures: NDArray[np.uint8] = np.rint(levels).astype(np.uint8)
    return pictures


def concepts_figure(
    trained: Mapping[str, NDArray[np.float64]], random: Mapping[str, NDArray[np.float64]]
) -> "Figure":
    """By concept, how strongly every feature responds to it, beside random filters.

    Args:
        trained, random: by concept, the `over_chance` of every feature; NaN where it cannot be
            judged.
    """
    from matplotlib.figure import Figure

    judged = {name: values[~np.isnan(values)] for name, values in trained.items()}
    names = [name for name, values in judged.items() if len(values)]
    jitter = np.random.default_rng(0)
    with mpl_style():
        figure = Figure(figsize=(1.6 + 0.85 * max(len(names), 3), 3.8))
        axes = figure.subplots()
        for column, name in enumerate(names):
            control = random[name][~np.isnan(random[name])]
            for values, shift, colour in ((control, -0.17, GREY), (judged[name], 0.17, BLUE)):
                across = column + shift + jitter.uniform(-0.13, 0.13, len(values))
                axes.plot(across, values, ".", color=colour, markersize=3, alpha=0.6)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.axhline(2, color=ORANGE, linewidth=0.8, linestyle="--")
        axes.plot([], [], ".", color=BLUE, label="trained filters")
        axes.plot([], [], ".", color=GREY, label="random filters")
        axes.set_yscale("log", base=2)
        axes.set(
            xticks=range(len(names)),
            xlim=(-0.6, len(names) - 0.4),
            ylabel="energy of the guided gradient\ninside the mask, over chance",
            title="What the features respond to, a dot each",
        )
        axes.set_xticklabels(names, rotation=35, ha="right")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(loc="lower right", markerscale=3)
        return figure


def _feature(side: "FeaturePictures", at: int, scale: int) -> Image.Image:
    """The images of one feature above their gradients."""
    _, n, height, width, _ = side.images.shape
    strip = Image.new(
        "RGB", (n * width * scale + (n - 1) * _GAP, 2 * height * scale + _GAP), (_GROUND,) * 3
    )
    draw = ImageDraw.Draw(strip)
    grey = signed_images(side.gradients[at])
    rows, columns = side.grid
    for k in range(n):
        x = k * (width * scale + _GAP)
        for y, pixels in ((0, side.images[at, k]), (height * scale + _GAP, grey[k])):
            large = Image.fromarray(pixels).resize(
                (width * scale, height * scale), Image.Resampling.NEAREST
            )
            strip.paste(large, (x, y))
        row, column = (int(value) for value in side.positions[at, k])
        frame = (
            x + column * width * scale // columns,
            row * height * scale // rows,
            x + (column + 1) * width * scale // columns - 1,
            (row + 1) * height * scale // rows - 1,
        )
        draw.rectangle(frame, outline=_YELLOW, width=max(1, scale // 2))
    return strip
