"""From image files of any kind to square RGB pictures of one size."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["UnreadableImageError", "in_threads", "square_image", "stacked", "whole_image"]

_MOST_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


class UnreadableImageError(Exception):
    """Why a file or a string of bytes is no image that can be shown."""


def square_image(encoded: Path | bytes, size: int) -> NDArray[np.uint8]:
    """The centre of an image: uint8 (size, size, 3), RGB, 0 to 255.

    Its shorter side is resized to `size` and its longer side cropped: the "min-resized center
    crops" of Radford et al. 2015, section 4.3. Shrinking is antialiased (bicubic); a smaller image
    is enlarged. Turned photographs (EXIF) are set upright, transparent ones laid on white, 16-bit
    ones brought to 8 bits, and of a moving image the first frame is taken.

    Args:
        encoded: a file, or the bytes of one, in any format that Pillow reads.
        size: width and height of the result, in pixels.

    Raises:
        UnreadableImageError: not an image, cut short, or without a brightness that 8 bits can hold.
    """
    from PIL import Image

    # Lets the JPEG decoder skip detail finer than half a pixel of the result.
    upright = _upright(encoded, (2 * size, 2 * size))
    width, height = upright.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return np.array(upright.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=3.0))


def whole_image(encoded: Path | bytes) -> NDArray[np.uint8]:
    """An image as it is: uint8 (H, W, 3), RGB, 0 to 255, set upright as `square_image` does.

    Raises:
        UnreadableImageError: as `square_image`.
    """
    return np.array(_upright(encoded, None))


def _upright(encoded: Path | bytes, draft: tuple[int, int] | None) -> "Image.Image":
    from PIL import Image, ImageOps

    try:
        stream = BytesIO(encoded) if isinstance(encoded, bytes) else encoded
        with Image.open(stream) as image:
            if draft is not None:
                image.draft(None, draft)
            return _rgb(ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    # Decoders meet broken bytes with errors of every kind, down to struct.error and IndexError.
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def _rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode.startswith("I"):
        # Pillow's own conversion would clip everything above 255 to white.
        levels = np.asarray(image).astype(np.float64)
        if levels.max() > 255:
            levels /= 257
        image = Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its floating-point pixels have no fixed range")
    if "A" in image.getbands() or "transparency" in image.info:
        pixels = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels)
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`function` of each item, in order; decoders let go of Python's lock, so threads help."""
    from joblib import cpu_count

    threads = min(len(items), cpu_count(), _MOST_THREADS)
    if threads < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def stacked(
    decode: Callable[[Item], NDArray[np.uint8]], items: Sequence[Item], size: int
) -> NDArray[np.uint8]:
    """The images that `decode` gives for `items`, in order: uint8 (N, size, size, 3)."""
    return np.array(in_threads(decode, items), np.uint8).reshape(-1, size, size, 3)
