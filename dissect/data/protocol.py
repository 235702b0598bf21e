"""What every image source offers."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError

__all__ = ["ImageSource", "Indices", "checked_count", "checked_indices"]

Indices: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]


class ImageSource(Protocol):
    """Square colour images by index; the same index is the same image every time."""

    @property
    def name(self) -> str:
        """The spec that opens this source again, such as `folder:photos`."""

    @property
    def size(self) -> int:
        """Width and height of every image, in pixels."""

    def __len__(self) -> int:
        """How many images there are."""

    def images(self, indices: Indices) -> NDArray[np.uint8]:
        """The images at `indices`: uint8 (B, size, size, 3), RGB, 0 to 255, a copy."""


def checked_indices(indices: Indices, length: int) -> NDArray[np.int64]:
    """`indices` as int64 (B,), each at least 0 and below `length`.

    Raises:
        DissectError: not a sequence of integers, or one of them is out of range.
    """
    array = np.asarray(indices)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DissectError(
            f"indices must be a one-dimensional sequence of integers; "
            f"got {array.dtype} of shape {array.shape}"
        )
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 0 or highest >= length:
        wrong = lowest if lowest < 0 else highest
        raise DissectError(f"image index {wrong} is out of range: there are {length} (0 first)")
    return array.astype(np.int64)


def checked_count(count: int | None, available: int, name: str) -> int:
    """How many images to use: `count`, or all that are `available`.

    Raises:
        DissectError: more were asked for than there are.
    """
    if count is not None and count > available:
        raise DissectError(f"{name} has {available} images, fewer than the {count} asked for")
    return available if count is None else count
