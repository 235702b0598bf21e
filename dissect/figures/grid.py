"""Images side by side, each pixel as it is."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["image_grid"]


def image_grid(
    images: NDArray[np.uint8],
    *,
    columns: int,
    scale: int = 2,
    gap: int = 1,
    background: int = 255,
) -> Image.Image:
    """One picture of all images, row by row, enlarged `scale` times without blurring.

    Args:
        images: (N, H, W, 3) uint8.
        columns: images in a row.
        scale: enlargement, a whole number (nearest neighbour).
        gap: pixels between two images, before the enlargement.
        background: grey level of the gaps.
    """
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3), background, np.uint8
    )
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
