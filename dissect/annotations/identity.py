"""Whether an image is the one that was annotated, of which only a digest is known.

The same network and latent give the same image up to rounding: on another processor a value that
lies next to the middle between two bytes may be rounded to the other one. So the bytes of such
values are tried both ways. A digest that then matches proves that the image is the same.
"""

import hashlib
from itertools import combinations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.images import to_images

__all__ = ["matches_digest", "pixels_digest"]

# How near the middle between two bytes a value may be rounded either way, in bytes: about 30 times
# the spacing of float32 at 255.
_NEAR = 5e-4
# The bytes that are digested in all trials of one image: a tenth of a second.
_BUDGET = 2**26


def matches_digest(image: npt.NDArray[np.uint8] | Tensor, digest: str) -> bool:
    """Whether an image is the one of this digest (see `pixels_digest`), up to rounding.

    Args:
        image: (H, W, 3) uint8, which must match to the byte; or (C, H, W) of a generator, C 1 or 3,
            floats in [-1, 1], which match within rounding.
        digest: of the image's bytes.
    """
    if not (isinstance(image, Tensor) and image.is_floating_point()):
        return pixels_digest(image) == digest
    pixels = to_images(image[None])[0]
    if pixels_digest(pixels) == digest:
        return True
    levels = image.detach().double().cpu().add(1).mul(127.5).clamp(0, 255)
    levels = levels.expand(3, -1, -1).permute(1, 2, 0).reshape(-1)
    off = (levels - levels.floor() - 0.5).abs()
    near = [int(k) for k in off.argsort()[:64] if off[k] < _NEAR]
    flat, tries = pixels.reshape(-1), _BUDGET // max(1, pixels.size)
    # The sum of the two bytes that it lies between, less the one that it was rounded to.
    others = {k: 2 * int(levels[k].floor()) + 1 - int(flat[k]) for k in near}
    for count in (1, 2, 3):
        for chosen in combinations(near, count):
            tries -= 1
            if tries < 0:
                return False
            tried = flat.copy()
            tried[list(chosen)] = [others[k] for k in chosen]
            if hashlib.sha256(tried.tobytes()).hexdigest() == digest:
                return True
    return False


def pixels_digest(image: npt.NDArray[np.uint8] | Tensor) -> str:
    """The SHA-256 of an image's bytes, row by row: 64 hexadecimal digits.

    Args:
        image: (H, W, 3) uint8.

    Raises:
        DissectError: another shape or type.
    """
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise DissectError(
            f"pixels are (H, W, 3) of uint8, not {tuple(pixels.shape)} of {pixels.dtype}"
        )
    return hashlib.sha256(pixels.tobytes()).hexdigest()
