"""Checked files of the cache: a header that says what they hold, then bytes to map into memory.

A file is used only if its header is the expected one, its length is right and its checksum holds.
Anything else counts as absent, and whoever needs the file makes it again.
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.io import atomic_write, lock_folder, make_folder, remove_unfinished

__all__ = [
    "Identity",
    "cache_folder",
    "has_payload",
    "only_one_process",
    "open_payload",
    "write_payload",
]

# One page, so that what follows is aligned for the memory map.
_HEADER_BYTES = 4096

Identity: TypeAlias = Mapping[str, str | int]


def cache_folder() -> Path:
    """Where rendered images and indexes are kept: `$DISSECT_CACHE`, or the user's cache folder.

    Everything there can be deleted at any time; it is made again when it is needed.
    """
    chosen = os.environ.get("DISSECT_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("dissect", appauthor=False)


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


@contextmanager
def only_one_process(folder: Path) -> Iterator[None]:
    """The cache folder, made where it is missing, in which no other process writes blocks.

    What a killed process left there is removed. The lock is no condition of being right: blocks
    are renamed into place whole, and two processes write the same bytes.

    Raises:
        DissectError: the folder cannot be made.
    """
    try:
        make_folder(folder)
    except DissectError as error:
        raise DissectError(f"{error}; set DISSECT_CACHE to one that can be written") from error
    with lock_folder(folder):
        remove_unfinished(folder, "block-*")
        yield
