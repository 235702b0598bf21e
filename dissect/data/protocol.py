"""What every image source offers."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError

__all__ = [
    "ImageSource",
    "Indices",
    "ListedSource",
    "checked_count",
    "checked_indices",
    "source_digest",
]

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


@runtime_checkable
class ListedSource(Protocol):
    """A source that can tell cheaply which images it has, in which order."""

    def listing(self) -> Iterable[bytes]:
        """What changes with the images: names and sizes of files, or a renderer and its seed."""


def source_digest(source: ImageSource) -> str:
    """The number of images, a colon and 16 hex digits that change with which they are.

    Where they lie and when they were written makes no difference.
    """
    digest = hashlib.sha256(f"{len(source)} {source.size}\n".encode())
    if isinstance(source, ListedSource):
        for part in source.listing():
            digest.update(part)
    return f"{len(source)}:{digest.hexdigest()[:16]}"


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
