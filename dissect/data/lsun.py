"""The LSUN database (Yu et al. 2015, arXiv 1506.03365) as a source, streamed from its LMDB."""

import hashlib
import importlib
import json
import os
import threading
import warnings
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.io import user_path
from dissect._utils.progress import progress_bar
from dissect.data.cache import Identity, cache_folder, kept_payload
from dissect.data.decode import UnreadableImageError, square_image, stacked
from dissect.data.protocol import Indices, checked_count, checked_indices

__all__ = ["LsunSource"]

_KEYS_AT_ONCE = 8192
# So many broken images in a row are no accident.
_MOST_IN_A_ROW = 16

# LMDB forbids a process to have one database open twice, as two threads might.
_one_reader = threading.Lock()


class LsunSource:
    """The images of an LSUN category, in the order of their keys, decoded when they are asked for.

    The database is opened for each read (some 0.1 ms) and never held, so the source may be pickled,
    forked and used from threads; its folder may be read-only. Only the keys are copied, once, into
    an index in the cache folder, which is mapped into memory; it is made again when the database
    changes. An image that does not decode is replaced by the next one that does, with a warning
    and an entry in `skipped`, so that one bad record among three million ends no training.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: int = 64,
        count: int | None = None,
        show_progress: bool | None = None,
    ) -> None:
        """Open the database, and index its keys where that was not done before.

        Args:
            path: the folder with `data.mdb`, such as `bedroom_train_lmdb`, or that file.
            size: width and height of every image, in pixels (see `square_image`).
            count: use the first so many; None: all.
            show_progress: whether to show a progress bar on stderr; None: where that is a terminal.

        Raises:
            DissectError: lmdb is not installed, no such database, it is broken or cut short, it
                holds no images or fewer than `count`, or the cache folder cannot be written.
        """
        self.name = f"lsun:{path}"
        self.size = size
        self.skipped: dict[str, str] = {}
        self._path = _database_file(user_path(path))
        with _opened(self._path) as database:
            self._identity = _identity(self._path, database)
        if self._identity["entries"] == 0:
            raise DissectError(f"{path} is empty; an LSUN database holds images by key")
        self._keys_path = _keys_path(self._path)
        self._keys = self._index(show_progress)
        self._count = checked_count(count, len(self._keys), self.name)
        self.images([0])

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{self.name}: {self._count} images, {len(self.skipped)} skipped>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_keys": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._keys = self._index(False)

    def listing(self) -> tuple[bytes, ...]:
        """The keys, in their order."""
        return (self._keys.text(len(self)),)

    @property
    def fingerprint(self) -> str:
        """Changes when the database does."""
        return json.dumps({"path": str(self._path), **self._identity})

    def key(self, index: int) -> bytes:
        """The database key of the image at `index`."""
        return self._keys[int(checked_indices([index], len(self))[0])]

    def images(self, indices: Indices) -> NDArray[np.uint8]:
        """The images at `indices`: uint8 (B, size, size, 3), RGB, 0 to 255.

        Raises:
            DissectError: an index is out of range, the database cannot be read any more, or many
                images in a row do not decode.
        """
        rows = checked_indices(indices, len(self)).tolist()
        records = list(zip(rows, self._read(rows), strict=True))
        return stacked(self._decoded, records, self.size)

    def _decoded(self, record: tuple[int, bytes | None]) -> NDArray[np.uint8]:
        index, encoded = record
        for tried in range(_MOST_IN_A_ROW):
            position = (index + tried) % len(self)
            if tried:
                [encoded] = self._read([position])
            try:
                if encoded is None:
                    raise UnreadableImageError("its key is not in the database any more")
                return square_image(encoded, self.size)
            except UnreadableImageError as error:
                reason = str(error)
                self._skip(position, reason)
        raise DissectError(
            f"{self.name}: {_MOST_IN_A_ROW} values in a row from number {index} on are no images "
            f"({reason}); an LSUN database holds JPEG or WebP files"
        )

    def _skip(self, index: int, reason: str) -> None:
        key = self._keys[index].decode("utf-8", "backslashreplace")
        if key not in self.skipped:
            self.skipped[key] = reason
            warnings.warn(
                f"{self.name}: image {index} ({key}) cannot be read ({reason}); "
                "the next one takes its place",
                stacklevel=2,
            )

    def _read(self, indices: list[int]) -> list[bytes | None]:
        with _opened(self._path) as database, database.begin() as reading:
            return [reading.get(self._keys[index]) for index in indices]

    def _index(self, show_progress: bool | None) -> "_Keys":
        entries = int(self._identity["entries"])

        def parts() -> Iterator[bytes | NDArray[np.uint8]]:
            with progress_bar(
                f"indexing {self._path.parent.name}", entries, show_progress
            ) as advance:
                yield from _key_parts(self._path, entries, advance)

        return _Keys(kept_payload(self._keys_path, self._identity, parts), entries)


class _Keys:
    """Every key of a database, mapped into memory: where each ends, after all of them in a row."""

    def __init__(self, payload: NDArray[np.uint8], entries: int) -> None:
        self._text, ends = np.split(payload, [payload.size - 8 * entries])
        self._ends = ends.view("<u8")

    def __len__(self) -> int:
        return len(self._ends)

    def text(self, count: int) -> bytes:
        """The first `count` keys in a row."""
        return self._text[: int(self._ends[count - 1])].tobytes()

    def __getitem__(self, index: int) -> bytes:
        start = int(self._ends[index - 1]) if index else 0
        return self._text[start : int(self._ends[index])].tobytes()


def _key_parts(
    path: Path, entries: int, advance: Callable[[int], None]
) -> Iterator[bytes | NDArray[np.uint8]]:
    """The payload that `_Keys` reads, piece by piece."""
    lengths = array("H")
    with _opened(path) as database, database.begin() as reading:
        keys = reading.cursor().iternext(keys=True, values=False)
        while part := list(islice(keys, _KEYS_AT_ONCE)):
            lengths.extend(map(len, part))
            advance(len(part))
            yield b"".join(part)
    if len(lengths) != entries:
        raise DissectError(
            f"{path} says it holds {entries} images and lists {len(lengths)}; download it again"
        )
    yield np.cumsum(lengths, dtype="<u8").view(np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The LMDB environment of the file at `path`, for reading."""
    try:
        lmdb = importlib.import_module("lmdb")
    except ImportError as error:
        raise DissectError(
            'reading LSUN needs the package lmdb: pip install "dissect-gan[lsun]"'
        ) from error
    with _one_reader:
        try:
            with lmdb.open(
                str(path), subdir=False, readonly=True, lock=False, readahead=False, create=False
            ) as database:
                yield database
        except lmdb.Error as error:
            raise DissectError(f"cannot read {path} as an LMDB database: {error}") from error


def _database_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise DissectError(f"no LSUN database {path}")
    if (path / "data.mdb").is_file():
        return path / "data.mdb"
    inside = sorted(file.parent.name for file in path.glob("*/data.mdb"))
    hint = f"; give one of the databases in it: {', '.join(inside)}" if inside else ""
    raise DissectError(f"{path} is no LSUN database: it has no data.mdb{hint}")


def _identity(path: Path, database: Any) -> Identity:
    """What the index must say to be the index of this database.

    Raises:
        DissectError: the file is shorter than its own pages: reading on would kill the process.
    """
    status, information, pages = path.stat(), database.info(), database.stat()
    whole = (information["last_pgno"] + 1) * pages["psize"]
    if status.st_size < whole:
        raise DissectError(
            f"{path} is cut short: {status.st_size} of {whole} bytes; download it again"
        )
    return {
        "format": 1,
        "bytes_of_database": status.st_size,
        "changed_ns": status.st_mtime_ns,
        "transaction": information["last_txnid"],
        "entries": pages["entries"],
    }


def _keys_path(path: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return cache_folder() / "lsun" / f"{digest}.keys"
