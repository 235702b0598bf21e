"""Checked files of the cache: a header that says what they hold, then bytes to map into memory.

A file is used only if its header is the expected one, its length is right and its checksum holds.
Anything else counts as absent, and whoever needs the file makes it again.
"""

import hashlib
import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.io import (
    atomic_write,
    lock_folder,
    make_folder,
    remove_files,
    remove_unfinished,
    user_path,
)
from dissect._utils.progress import progress_bar
from dissect.data.protocol import Indices, checked_indices

__all__ = [
    "BlockCache",
    "Identity",
    "cache_folder",
    "files_state",
    "has_payload",
    "kept_payload",
    "open_payload",
    "write_payload",
]

# One page, so that what follows is aligned for the memory map.
_HEADER_BYTES = 4096

Identity: TypeAlias = Mapping[str, str | int]
Rows: TypeAlias = NDArray[np.uint8]
MakeRows: TypeAlias = Callable[[Sequence[range]], Generator[tuple[Rows, ...], None, None]]


def cache_folder() -> Path:
    """Where rendered images and indexes are kept: `$DISSECT_CACHE`, or the user's cache folder.

    Everything there can be deleted at any time; it is made again when it is needed.

    Raises:
        DissectError: the user has no home folder, and the environment names no other.
    """
    chosen = os.environ.get("DISSECT_CACHE")
    if chosen:
        return user_path(chosen)
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("dissect", appauthor=False)
    except RuntimeError:  # older versions of platformdirs leave the ~ as it is
        folder = Path("~")
    if not folder.is_absolute():
        raise DissectError(
            "there is no home folder to keep rendered and decoded images in: set DISSECT_CACHE to "
            "a folder"
        )
    return folder


def write_payload(
    path: Path, identity: Identity, parts: Iterable[bytes | NDArray[np.uint8]]
) -> None:
    """Writes `parts`, one after another, to `path` under a header of `identity` and checksum.

    Raises:
        DissectError: the file cannot be written; whatever was at `path` is still there.
    """
    checksum, length = 0, 0
    with atomic_write(path) as stream:
        stream.write(bytes(_HEADER_BYTES))
        for part in parts:
            content = part if isinstance(part, bytes) else part.data.cast("B")
            stream.write(content)
            checksum = zlib.crc32(content, checksum)
            length += len(content)
        header = json.dumps({**identity, "bytes": length, "crc32": checksum}).encode()
        if len(header) > _HEADER_BYTES:
            raise ValueError(f"the header of {path} takes {len(header)} bytes")
        stream.seek(0)
        stream.write(header.ljust(_HEADER_BYTES))


def has_payload(path: Path, identity: Identity, at_least: int = 0) -> bool:
    """Whether `path` says it holds `identity`, has the length it says, and `at_least` that many.

    Reads the header alone; `open_payload` reads and checks the bytes too.
    """
    header = _header(path, identity)
    return header is not None and header["bytes"] >= at_least


def open_payload(
    path: Path, identity: Identity, *, checked: bool = True
) -> NDArray[np.uint8] | None:
    """The bytes of `path` mapped into memory, read-only (N,), or None where they are not right.

    Every byte is read once for the checksum, about 2 GB/s from memory; if not `checked`, only the
    header is read and held against the file's length.
    """
    header = _header(path, identity)
    if header is None:
        return None
    try:
        payload = np.memmap(path, np.uint8, "r", offset=_HEADER_BYTES, shape=(header["bytes"],))
    except (OSError, ValueError):
        return None
    if checked and zlib.crc32(payload.data) != header["crc32"]:
        return None
    return payload


def kept_payload(
    path: Path, identity: Identity, make: Callable[[], Iterable[bytes | NDArray[np.uint8]]]
) -> NDArray[np.uint8]:
    """The bytes of `path` as `open_payload` gives them; what `make` gives is written there first.

    Raises:
        DissectError: the file cannot be written or read back.
    """
    payload = open_payload(path, identity)
    if payload is None:
        write_payload(path, identity, make())
        payload = open_payload(path, identity, checked=False)
    if payload is None:
        raise DissectError(f"{path} cannot be read back; delete it")
    return payload


def files_state(root: Path, names: Iterable[str], about: str = "") -> str:
    """A digest of `about` and of the names, sizes and times of the files `names` below `root`."""
    digest = hashlib.sha256(about.encode())
    for name in names:
        digest.update(os.fsencode(name) + b"\0")
        with suppress(OSError):
            status = (root / name).stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _header(path: Path, identity: Identity) -> dict[str, Any] | None:
    try:
        with path.open("rb") as stream:
            length = os.fstat(stream.fileno()).st_size
            header = json.loads(stream.read(_HEADER_BYTES))
    except (OSError, ValueError):
        return None
    if not isinstance(header, dict):
        return None
    size, checksum = header.pop("bytes", None), header.pop("crc32", None)
    if header != dict(identity) or not isinstance(size, int) or not isinstance(checksum, int):
        return None
    # An empty map is an error of the operating system, and nothing here is empty.
    if size <= 0 or length != _HEADER_BYTES + size:
        return None
    return {"bytes": size, "crc32": checksum}


class BlockCache:
    """Rows of bytes in a folder of files, some thousand rows each, mapped into memory when read.

    A block says what it holds and carries a checksum. One that is missing, cut short, altered or
    of another identity is made again. Blocks are written whole or not at all: what was interrupted
    goes on where it stopped, a larger count adds blocks, and processes share the work of one.

    Args:
        folder: where the blocks are.
        identity: of what they hold; a block of another identity counts as absent.
        shapes: of the arrays that a row consists of.
        count: number of rows.
        block_bytes: about how large a file is.
        checked: whether a block is read whole, for its checksum, when it is first used.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        shapes: Sequence[tuple[int, ...]],
        count: int,
        *,
        block_bytes: int,
        checked: bool = True,
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._shapes = tuple(shapes)
        self._count = count
        self._row_bytes = sum(map(math.prod, shapes))
        self._block_rows = max(1, block_bytes // self._row_bytes)
        self._checked = checked
        self._blocks: dict[int, list[Rows]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the files itself.
        return {**self.__dict__, "_blocks": {}}

    @property
    def files(self) -> tuple[Path, ...]:
        """The blocks, in order."""
        return tuple(map(self._path, self._all))

    def complete(
        self,
        make: MakeRows,
        *,
        step: int,
        task: str,
        show_progress: bool | None = None,
        blocks: Iterable[int] | None = None,
    ) -> None:
        """Make what is missing.

        Args:
            make: gives, for each of the ranges of rows that it is given, the arrays of these rows.
            step: the most rows in one of its ranges.
            task: what is done, as in `rendering bedrooms`, for the progress bar and for errors.
            show_progress: whether to show the bar on stderr; None: where that is a terminal.
            blocks: only these.

        Raises:
            DissectError: the folder cannot be written, or its disk is too small.
        """
        wanted = list(self._all if blocks is None else blocks)
        if all(map(self._has, wanted)):
            return
        try:
            make_folder(self._folder)
        except DissectError as error:
            raise DissectError(f"{error}; set DISSECT_CACHE to one that can be written") from error
        total = sum(len(self._rows(block)) for block in wanted)
        # The lock only saves work: blocks are renamed into their places whole, and two processes
        # write the same bytes.
        with progress_bar(task, total, show_progress) as advance, lock_folder(self._folder):
            remove_unfinished(self._folder, "block-*")
            # Another process may have been here while this one waited.
            missing = [block for block in wanted if not self._has(block)]
            rows_missing = sum(len(self._rows(block)) for block in missing)
            advance(total - rows_missing)
            self._check_space(rows_missing * self._row_bytes, task)
            plan = [_pieces(self._rows(block), step) for block in missing]
            # Closed at an error, so that workers end now.
            with closing(make([piece for pieces in plan for piece in pieces])) as arrays:
                for block, pieces in zip(missing, plan, strict=True):
                    parts = []
                    for piece in pieces:
                        parts.append(next(arrays))
                        advance(len(piece))
                    write_payload(
                        self._path(block),
                        self._identity_of(block),
                        chain.from_iterable(zip(*parts, strict=True)),
                    )

    def gather(
        self, indices: Indices, part: int = 0, mend: Callable[[int], None] | None = None
    ) -> Rows:
        """A copy of the rows at `indices`: uint8 (B, ...).

        Args:
            indices: of rows.
            part: which of the arrays that a row consists of.
            mend: makes a block again that is not as it was written; without it, that is an error.

        Raises:
            DissectError: an index is out of range, or a block is broken and cannot be mended.
        """
        rows = checked_indices(indices, self._count)
        gathered = np.empty((len(rows), *self._shapes[part]), np.uint8)
        block_of = rows // self._block_rows
        for block in np.unique(block_of).tolist():
            here = block_of == block
            if block not in self._blocks:
                self._blocks[block] = self._open(block, mend)
            gathered[here] = self._blocks[block][part][rows[here] - block * self._block_rows]
        return gathered

    @property
    def _all(self) -> range:
        return range(-(-self._count // self._block_rows))

    def _open(self, block: int, mend: Callable[[int], None] | None) -> list[Rows]:
        arrays = self._mapped(block)
        if arrays is None and mend is not None:
            remove_files(self._path(block))
            mend(block)
            arrays = self._mapped(block)
        if arrays is None:
            raise DissectError(
                f"{self._path(block)} is gone or broken; delete {self._folder} and begin again"
            )
        return arrays

    def _mapped(self, block: int) -> list[Rows] | None:
        if not self._has(block):
            return None
        payload = open_payload(self._path(block), self._identity_of(block), checked=self._checked)
        if payload is None:
            return None
        rows = payload.size // self._row_bytes
        ends = np.cumsum([rows * math.prod(shape) for shape in self._shapes])
        parts = zip(np.split(payload, ends[:-1]), self._shapes, strict=True)
        return [part.reshape(rows, *shape) for part, shape in parts]

    def _path(self, block: int) -> Path:
        return self._folder / f"block-{block:05d}.bin"

    def _identity_of(self, block: int) -> Identity:
        return {
            **self._identity,
            "first": block * self._block_rows,
            "rows": self._block_rows,
        }

    def _rows(self, block: int) -> range:
        first = block * self._block_rows
        return range(first, min(first + self._block_rows, self._count))

    def _has(self, block: int) -> bool:
        needed = len(self._rows(block)) * self._row_bytes
        return has_payload(self._path(block), self._identity_of(block), at_least=needed)

    def _check_space(self, needed: int, task: str) -> None:
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise DissectError(
                f"{task} needs {needed / 1e9:.2f} GB in {self._folder}, where {free / 1e9:.2f} GB "
                "is free; use fewer images, or set DISSECT_CACHE to another disk"
            )


def _pieces(rows: range, step: int) -> list[range]:
    return [rows[start : start + step] for start in range(0, len(rows), step)]
