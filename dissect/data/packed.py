"""A source's images at one size, decoded once and kept: memory-mapped, ready to be trained on."""

import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.io import read_json, write_json
from dissect.data.cache import BlockCache, cache_folder
from dissect.data.protocol import ImageSource, Indices, ListedSource

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

    They are kept in a `BlockCache`, 12 kB an image of 64x64, and made again when a file of the
    source changes. Images that cannot be read are named in `skipped`, as the source names them.
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        show_progress: bool | None = None,
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        """Decode what the cache lacks of `source`.

        Args:
            source: a folder or a database of image files.
            show_progress: whether to show a progress bar on stderr; None: where that is a terminal.
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
        self._source = source
        text = f"pillow {installed_version('pillow')}\n{len(source)}\n{source.fingerprint}"
        fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        folder = cache_folder() / "packed" / f"{fingerprint}-{source.size}px"
        self._cache = BlockCache(
            folder,
            {"format": 1, "source": fingerprint, "size": source.size},
            [(source.size, source.size, 3)],
            self._count,
            block_bytes=block_bytes,
            # A first batch uses nearly every block, and would read them all.
            checked=False,
        )
        names = folder / "skipped.json"
        known = _known(names)

        def decode(ranges: Sequence[range]) -> Generator[tuple[NDArray[np.uint8]], None, None]:
            for rows in ranges:
                images = source.images(rows)
                if not source.skipped.keys() <= known.keys():
                    # Before the block: what it lacks is not decoded again to be named.
                    known.update(source.skipped)
                    write_json(names, known)
                yield (images,)

        self._cache.complete(
            decode, step=_DECODED_AT_ONCE, task=f"packing {self.name}", show_progress=show_progress
        )
        self.skipped: dict[str, str] = {**known, **source.skipped}

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self)} packed images, {len(self.skipped)} skipped>"

    def images(self, indices: Indices) -> NDArray[np.uint8]:
        """The images at `indices`: uint8 (B, size, size, 3), RGB, 0 to 255, a copy.

        Raises:
            DissectError: an index is out of range, or the cache was deleted meanwhile.
        """
        return self._cache.gather(indices)

    def listing(self) -> Iterable[bytes]:
        """As the source that was packed."""
        return self._source.listing() if isinstance(self._source, ListedSource) else ()

    @property
    def cache_files(self) -> tuple[Path, ...]:
        """The files in which the images are kept."""
        return self._cache.files


def _known(path: Path) -> dict[str, str]:
    with suppress(DissectError):
        known = read_json(path)
        if isinstance(known, dict):
            return {str(name): str(reason) for name, reason in known.items()}
    return {}
