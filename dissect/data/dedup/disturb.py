"""What happens to a picture that is copied: it is compressed again, or made brighter or darker."""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["jpeg_jitter"]

# The luminance table of the JPEG standard (ITU-T T.81, annex K.1), for quality 50.
_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_QUALITIES = (50, 95)
_GAINS, _OFFSETS = (0.8, 1.25), (-12.0, 12.0)
# Of the copies; the rest are left alone by the one or the other.
_COMPRESSED, _BRIGHTENED = 0.7, 0.7


def jpeg_jitter(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Copies of `images` (N, H, W, 3), H and W multiples of 8, each changed as copies are.

    Most are made brighter or darker (another gain and offset, clipped to 0 to 255), most are
    quantised in blocks of 8x8 as JPEG quantises.
    """
    n = len(images)

    def draw(low: float, high: float) -> NDArray[np.float32]:
        return random.uniform(low, high, (n, 1, 1, 1)).astype(np.float32)

    def chosen(fraction: float) -> NDArray[np.bool_]:
        return random.random((n, 1, 1, 1)) < fraction

    values = images.astype(np.float32)
    gains = np.where(chosen(_BRIGHTENED), draw(*_GAINS), 1)
    offsets = np.where(chosen(_BRIGHTENED), draw(*_OFFSETS), 0)
    values = np.clip(np.rint(values * gains + offsets), 0, 255).astype(np.float32)
    coarse = _quantised(values, draw(*_QUALITIES).ravel())
    values = np.where(chosen(_COMPRESSED), coarse, values)
    copies: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return copies


def _quantised(values: NDArray[np.float32], qualities: NDArray[np.float32]) -> NDArray[np.float32]:
    n, height, width, colours = values.shape
    # As the Independent JPEG Group scales its tables by a quality.
    scale = np.where(qualities < 50, 50 / qualities, 2 - qualities / 50)
    table = np.maximum(np.rint(_TABLE * scale[:, None, None]), 1)[:, None, None, None]
    blocks = (values - 128).reshape(n, height // 8, 8, width // 8, 8, colours)
    blocks = blocks.transpose(0, 1, 3, 5, 2, 4)
    cosines = _cosines()
    levels = np.rint(cosines @ blocks @ cosines.T / table) * table
    back = (cosines.T @ levels @ cosines).transpose(0, 1, 4, 2, 5, 3)
    restored: NDArray[np.float32] = (back.reshape(values.shape) + 128).astype(np.float32)
    return restored


def _cosines() -> NDArray[np.float32]:
    """The orthonormal 8-point discrete cosine transform."""
    frequency, position = np.mgrid[:8, :8]
    table = np.cos(math.pi * (2 * position + 1) * frequency / 16) / 2
    table[0] /= math.sqrt(2)
    cosines: NDArray[np.float32] = table.astype(np.float32)
    return cosines
