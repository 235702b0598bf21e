"""The list of images to keep: a text file, and the source that holds no others."""

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.io import atomic_write
from dissect.data.protocol import ImageSource, Indices, ListedSource, checked_indices

__all__ = ["SubsetSource", "keep_digest", "read_keep", "write_keep"]

_TITLE = "# dissect keep: "
_LINES_AT_ONCE = 100_000


def write_keep(path: Path, keep: NDArray[np.int64], source: str, n_images: int) -> Path:
    """The file at `path`: a line that says of which source, then a number a line, rising."""
    with atomic_write(path) as stream:
        stream.write(f"{_TITLE}{len(keep)} of the {n_images} images of {source}\n".encode())
        for start in range(0, len(keep), _LINES_AT_ONCE):
            part = keep[start : start + _LINES_AT_ONCE].tolist()
            stream.write("".join(f"{index}\n" for index in part).encode())
    return path


def read_keep(path: Path, n_images: int) -> NDArray[np.int64]:
    """The numbers of the images to keep (K,), rising, as `write_keep` wrote them.

    Args:
        path: the file.
        n_images: how many images the source has now.

    Raises:
        DissectError: no such file, not such a list, or one of a source of another size.
    """
    try:
        title, _, numbers = path.read_bytes().partition(b"\n")
        # An editor may have put a byte order mark before it.
        text = title.decode("utf-8-sig")
        words = text.removeprefix(_TITLE).split()
        if not text.startswith(_TITLE):
            raise ValueError
        kept, known = int(words[0]), int(words[3])
        with warnings.catch_warnings():
            # What is no number ends the reading with a warning.
            warnings.simplefilter("error")
            keep = np.fromstring(numbers.decode(), np.int64, sep="\n")
    except OSError as error:
        raise DissectError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, IndexError, OverflowError, DeprecationWarning) as error:
        raise DissectError(
            f"{path} is no list of images to keep; dissect dedup writes one"
        ) from error
    if known != n_images:
        raise DissectError(
            f"{path} was made of a source of {known} images, and this one has {n_images}; "
            "run dissect dedup again, or give the same --images"
        )
    rising = len(keep) and keep[0] >= 0 and keep[-1] < known and (np.diff(keep) > 0).all()
    if len(keep) != kept or not rising:
        raise DissectError(f"{path} is cut short or altered; run dissect dedup again")
    return keep


def keep_digest(path: Path) -> str:
    """16 hex digits that change with the file.

    Raises:
        DissectError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise DissectError(f"cannot read {path}: {error.strerror or error}") from error


class SubsetSource:
    """The images of a source that are on a list, in their order."""

    def __init__(self, source: ImageSource, keep: NDArray[np.int64]) -> None:
        """`keep` are places in `source` (K,)."""
        self.name = source.name
        self.size = source.size
        self._source = source
        self._keep = keep

    def __len__(self) -> int:
        return len(self._keep)

    def __repr__(self) -> str:
        return f"<{len(self)} kept of {self._source!r}>"

    def listing(self) -> Iterator[bytes]:
        """As the source, and which of it are kept."""
        if isinstance(self._source, ListedSource):
            yield from self._source.listing()
        yield self._keep.tobytes()

    def images(self, indices: Indices) -> NDArray[np.uint8]:
        """The images at `indices` of the list: uint8 (B, size, size, 3), RGB, 0 to 255."""
        return self._source.images(self._keep[checked_indices(indices, len(self))])
