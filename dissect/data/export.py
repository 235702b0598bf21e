"""Rendered images as PNG files, for other programs and for looking."""

import colorsys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dissect._utils.io import write_image, write_json
from dissect._utils.progress import progress_bar
from dissect.data.rendered import RenderedSource

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["export", "mask_image"]

_AT_ONCE = 256
_GOLDEN_RATIO = 0.618034


def export(source: RenderedSource, folder: Path, show_progress: bool | None = None) -> list[Path]:
    """The files written to `folder`: `images/NNNNNN.png`, `masks/NNNNNN.png`, `classes.json`.

    The pixels of a mask are class ids, positions in the list `classes` of the JSON file; a palette
    shows them in colours.

    Raises:
        DissectError: the folder cannot be written.
    """
    written = []
    with progress_bar("writing PNG files", len(source), show_progress) as advance:
        for start in range(0, len(source), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(source)))
            pairs = zip(source.images(rows), source.masks(rows), strict=True)
            for index, (pixels, mask) in zip(rows, pairs, strict=True):
                name = f"{index:06d}.png"
                written.append(write_image(folder / "images" / name, _image(pixels)))
                written.append(write_image(folder / "masks" / name, mask_image(mask)))
            advance(len(rows))
    description = {
        "source": source.name,
        "count": len(source),
        "size": source.size,
        "seed": source.seed,
        "classes": list(source.classes),
    }
    written.append(write_json(folder / "classes.json", description))
    return written


def mask_image(mask: NDArray[np.uint8]) -> "Image.Image":
    """`mask` (H, W) as a palette image: its pixels are the class ids, each shown in a colour."""
    image = _image(mask)
    image.putpalette([level for number in range(256) for level in _colour(number)])
    return image


def _image(pixels: NDArray[np.uint8]) -> "Image.Image":
    from PIL import Image

    return Image.fromarray(pixels)


def _colour(number: int) -> tuple[int, int, int]:
    # Steps of the golden ratio round the circle of hues keep neighbouring ids far apart.
    hue, value = number * _GOLDEN_RATIO % 1.0, (0.95, 0.6, 0.78)[number % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, value)
    return round(255 * red), round(255 * green), round(255 * blue)
