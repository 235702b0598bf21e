"""A source's images at one size, decoded once and kept: memory-mapped, ready to be trained on."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.io import read_json, write_json
from dissect._utils.progress import Advance, progress_bar
from dissect.data.cache import (
    Identity,
    cache_folder,
    has_payload,
    only_one_process,
    open_payload,
    write_payload,
)
from dissect.data.protocol import ImageSource, Indices, checked_indices

__all__ = ["PackedSource"]

_BLOCK_BYTES = 2**26
_DECODED_AT_ONCE = 512


@runtime_checkable
class _Decoded(Protocol):
    """A source of files that are decoded anew each time: what can be packed."""

    fingerprint: str
    skipped: Mapping[str, str]


class PackedSource:
    """The images of another source, mapped into memory from the cache folder.

        photos = PackedSource(source("lsun:bedroom_train_lmdb"))
        photos.images([0, 7])     # what the source itself gives, without decoding

    The cache is a folder of blocks of some thousand images, in all 12 kB an image of 64x64. Blocks
    are written whole or not at all: an interrupted packing goes on where it stopped. They are made
    again when a file of the source changes. Nothing is held in memory but what the system's page
    cache holds. Images that cannot be read are named in `skipped`, as the source names them.
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        progress: bool | None = None,
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        """Decode what the cache lacks of `source`.

        Args:
            source: a folder or a database of image files.
            progress: whether to show a progress bar on stderr; None: where that is a terminal.
            block_bytes: about how large a cache file is.

        Raises:
            DissectError: a source that is not decoded from files, or a cache folder that cannot be
                written or whose disk is too small.
        """
        if not isinstance(source, _Decoded):
            raise DissectError(
                f"{source.name} is not decoded from files, so there is nothing to pack; folder: "
                "and lsun: sources can be"
            )
        self.name = source.name
        self.size = source.size
        self._count = len(source)
        self._image_bytes = source.size**2 * 3
        self._block_rows = max(1, block_bytes // self._image_bytes)
        text = f"pillow {installed_version('pillow')}\n{len(source)}\n{source.fingerprint}"
        self._fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._folder = cache_folder() / "packed" / f"{self._fingerprint}-{source.size}px"
        self._blocks: dict[int, NDArray[np.uint8]] = {}
        self.skipped: dict[str, str] = {}
        self._complete(source, progress)

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self)} packed images, {len(self.skipped)} skipped>"

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the files itself.
        return {**self.__dict__, "_blocks": {}}

    def images(self, indices: Indices) -> NDArray[np.uint8]:
        """The images at `indices`: uint8 (B, size, size, 3), RGB, 0 to 255, a copy.

        Raises:
            DissectError: an index is out of range, or the cache was deleted meanwhile.
        """
        rows = checked_indices(indices, self._count)
        gathered = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        homes = rows // self._block_rows
        for block in np.unique(homes).tolist():
            here = homes == block
            gathered[here] = self._block(block)[rows[here] - block * self._block_rows]
        return gathered

    @property
    def cache_files(self) -> tuple[Path, ...]:
        """The files in which the images are kept."""
        return tuple(map(self._path, range(self._n_blocks)))

    @property
    def _n_blocks(self) -> int:
        return -(-self._count // self._block_rows)

    def _block(self, block: int) -> NDArray[np.uint8]:
        if block not in self._blocks:
            # Unchecked: a first batch touches nearly every block, and would read them all.
            payload = open_payload(self._path(block), self._identity(block), checked=False)
            if payload is None:
                raise DissectError(f"{self._path(block)} is gone or cut short; begin again")
            self._blocks[block] = payload.reshape(-1, self.size, self.size, 3)
        return self._blocks[block]

    def _path(self, block: int) -> Path:
        return self._folder / f"block-{block:05d}.bin"

    def _rows(self, block: int) -> range:
        first = block * self._block_rows
        return range(first, min(first + self._block_rows, self._count))

    def _identity(self, block: int) -> Identity:
        rows = self._rows(block)
        return {
            "format": 1,
            "source": self._fingerprint,
            "size": self.size,
            "first": rows.start,
            "rows": len(rows),
        }

    def _has(self, block: int) -> bool:
        return has_payload(self._path(block), self._identity(block))

    def _complete(self, source: ImageSource, progress: bool | None) -> None:
        names = self._folder / "skipped.json"
        blocks = range(self._n_blocks)
        if not all(map(self._has, blocks)):
            with (
                progress_bar(f"packing {self.name}", self._count, progress) as advance,
                only_one_process(self._folder),
            ):
                # Another process may have been here while this one waited.
                missing = [block for block in blocks if not self._has(block)]
                advance(self._count - sum(len(self._rows(block)) for block in missing))
                self._check_space(missing)
                for block in missing:
                    parts = self._decode(source, block, advance)
                    write_payload(self._path(block), self._identity(block), parts)
                    # What was skipped before an interruption is not met again.
                    write_json(names, {**_known(names), **_skipped(source)})
        self.skipped = {**_known(names), **_skipped(source)}

    def _decode(
        self, source: ImageSource, block: int, advance: Advance
    ) -> Iterator[NDArray[np.uint8]]:
        rows = self._rows(block)
        for start in range(rows.start, rows.stop, _DECODED_AT_ONCE):
            part = np.arange(start, min(start + _DECODED_AT_ONCE, rows.stop))
            yield source.images(part)
            advance(len(part))

    def _check_space(self, blocks: list[int]) -> None:
        needed = sum(len(self._rows(block)) for block in blocks) * self._image_bytes
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise DissectError(
                f"packing {self.name} needs {needed / 1e9:.2f} GB in {self._folder}, where "
                f"{free / 1e9:.2f} GB is free; set DISSECT_CACHE to another disk"
            )


def _skipped(source: ImageSource) -> dict[str, str]:
    return dict(getattr(source, "skipped", {}))


def _known(path: Path) -> dict[str, str]:
    with suppress(DissectError):
        known = read_json(path)
        if isinstance(known, dict):
            return {str(name): str(reason) for name, reason in known.items()}
    return {}
