"""Procedural images, rendered once and kept: a checked, memory-mapped cache of images and masks."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.io import remove_files
from dissect._utils.progress import progress_bar
from dissect.data.cache import (
    Identity,
    cache_folder,
    has_payload,
    only_one_process,
    open_payload,
    write_payload,
)
from dissect.data.protocol import Indices, checked_indices
from dissect.data.workers import Chunk, Render, render_chunks

__all__ = ["RenderedSource", "Renderer", "source_version"]

# Size of a cache file: a block is checked whole when it is first touched, in about 30 ms.
_BLOCK_BYTES = 2**26
# Size of what a worker renders at once.
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Renderer:
    """A procedural renderer: `render(index, seed, size)` gives image and mask.

    The image is uint8 (size, size, 3), the mask uint8 (size, size) with positions in `classes`;
    both depend on the arguments alone. `version` changes whenever the pictures may.
    """

    name: str
    render: Render
    classes: tuple[str, ...]
    version: str


def source_version(*packages: str | Path) -> str:
    """16 hex digits that change with the Python files of these packages, and with numpy and Pillow.

    Args:
        packages: folders (searched recursively) or files.
    """
    digest = hashlib.sha256()
    for library in ("numpy", "pillow"):
        digest.update(f"{library} {installed_version(library)}\n".encode())
    for package in map(Path, packages):
        files = sorted(package.rglob("*.py")) if package.is_dir() else [package]
        for file in files:
            digest.update(f"{file.relative_to(package.parent).as_posix()}\n".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


class RenderedSource:
    """Images and masks of a renderer, made when the source is opened and read from disk after.

        bedrooms = source("bedrooms", count=50_000)
        bedrooms.images([0, 7])     # uint8 (2, 64, 64, 3)
        bedrooms.masks([0, 7])      # uint8 (2, 64, 64), positions in bedrooms.classes

    The cache is a folder of blocks of some thousand images. A block says which renderer, version,
    seed and size it is of and carries a checksum; one that is missing, cut short, altered or of
    another version is rendered again, so what is read is always what the renderer draws. Blocks
    are written whole or not at all: an interrupted rendering goes on where it stopped, a larger
    count adds blocks, a smaller one uses the first ones, and processes share the work of one.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        count: int,
        size: int = 64,
        seed: int = 0,
        progress: bool | None = None,
        workers: int | None = None,
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        """Open the cache and render what it lacks.

        Args:
            renderer: what draws.
            count: number of images, those of indices 0 to count - 1.
            size: width and height in pixels.
            seed: the series.
            progress: whether to show a progress bar on stderr; None: where that is a terminal.
            workers: processes that render; by default one a core.
            block_bytes: about how large a cache file is.

        Raises:
            DissectError: the cache folder cannot be written or its disk is too small.
        """
        if count < 1 or size < 1 or seed < 0:
            raise DissectError(
                f"{renderer.name} needs count >= 1, size >= 1 and seed >= 0; "
                f"got count={count}, size={size}, seed={seed}"
            )
        self.name = renderer.name
        self.size = size
        self.seed = seed
        self.classes = renderer.classes
        self._renderer = renderer
        self._count = count
        self._progress = progress
        self._workers = workers
        self._image_bytes = size * size * 4
        self._block_rows = max(1, block_bytes // self._image_bytes)
        self._folder = cache_folder() / "rendered" / f"{renderer.name}-{size}px-seed{seed}"
        self._blocks: dict[int, Chunk] = {}
        self._complete(range(-(-count // self._block_rows)))

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{self.name}: {self._count} rendered images of {self.size} px, seed {self.seed}>"

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the files itself.
        return {**self.__dict__, "_blocks": {}}

    def images(self, indices: Indices) -> NDArray[np.uint8]:
        """The images at `indices`: uint8 (B, size, size, 3), RGB, 0 to 255, a copy."""
        return self._gather(indices, 0, (self.size, self.size, 3))

    def masks(self, indices: Indices) -> NDArray[np.uint8]:
        """The class of every pixel at `indices`: uint8 (B, size, size), positions in `classes`."""
        return self._gather(indices, 1, (self.size, self.size))

    @property
    def cache_files(self) -> tuple[Path, ...]:
        """The files in which the images are kept."""
        return tuple(map(self._path, range(-(-self._count // self._block_rows))))

    def _gather(self, indices: Indices, part: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        rows = checked_indices(indices, self._count)
        gathered = np.empty((len(rows), *shape), np.uint8)
        homes = rows // self._block_rows
        for block in np.unique(homes).tolist():
            here = homes == block
            gathered[here] = self._block(block)[part][rows[here] - block * self._block_rows]
        return gathered

    def _block(self, block: int) -> Chunk:
        if block not in self._blocks:
            opened = self._open(block) or self._rendered_again(block)
            self._blocks[block] = opened
        return self._blocks[block]

    def _rendered_again(self, block: int) -> Chunk:
        path = self._path(block)
        remove_files(path)
        self._complete([block])
        opened = self._open(block)
        if opened is None:
            raise DissectError(f"{path} is broken and cannot be replaced; delete {self._folder}")
        return opened

    def _open(self, block: int) -> Chunk | None:
        if not self._has(block):
            return None
        payload = open_payload(self._path(block), self._identity(block))
        if payload is None:
            return None
        rows = payload.size // self._image_bytes
        images, masks = np.split(payload, [rows * self.size**2 * 3])
        return (
            images.reshape(rows, self.size, self.size, 3),
            masks.reshape(rows, self.size, self.size),
        )

    def _path(self, block: int) -> Path:
        return self._folder / f"block-{block:05d}.bin"

    def _identity(self, block: int) -> Identity:
        return {
            "format": 1,
            "renderer": self._renderer.name,
            "version": self._renderer.version,
            "seed": self.seed,
            "size": self.size,
            "first": block * self._block_rows,
            "rows": self._block_rows,
        }

    def _rows_needed(self, block: int) -> int:
        return min(self._block_rows, self._count - block * self._block_rows)

    def _has(self, block: int) -> bool:
        needed = self._rows_needed(block) * self._image_bytes
        return has_payload(self._path(block), self._identity(block), at_least=needed)

    def _complete(self, blocks: Sequence[int]) -> None:
        if all(map(self._has, blocks)):
            return
        total = sum(map(self._rows_needed, blocks))
        with (
            progress_bar(f"rendering {self.name}", total, self._progress) as advance,
            only_one_process(self._folder),
        ):
            # Another process may have been here while this one waited.
            missing = [block for block in blocks if not self._has(block)]
            advance(total - sum(map(self._rows_needed, missing)))
            self._check_space(missing)
            self._render(missing, advance)

    def _check_space(self, blocks: Sequence[int]) -> None:
        needed = sum(map(self._rows_needed, blocks)) * self._image_bytes
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise DissectError(
                f"rendering {self.name} needs {needed / 1e9:.2f} GB in {self._folder}, where "
                f"{free / 1e9:.2f} GB is free; ask for fewer, or set DISSECT_CACHE to another disk"
            )

    def _render(self, blocks: Sequence[int], advance: Callable[[int], None]) -> None:
        step = max(1, _CHUNK_BYTES // self._image_bytes)
        plan = [self._ranges(block, step) for block in blocks]
        ranges = [bounds for part in plan for bounds in part]
        chunks = render_chunks(
            self._renderer.render, ranges, seed=self.seed, size=self.size, workers=self._workers
        )
        try:
            for block, part in zip(blocks, plan, strict=True):
                images, masks = [], []
                for _ in part:
                    chunk = next(chunks)
                    images.append(chunk[0])
                    masks.append(chunk[1])
                    advance(len(chunk[0]))
                write_payload(self._path(block), self._identity(block), [*images, *masks])
        finally:
            # Ends the workers now, also where a disk is full.
            chunks.close()

    def _ranges(self, block: int, step: int) -> list[tuple[int, int]]:
        first = block * self._block_rows
        stop = first + self._rows_needed(block)
        return [(start, min(start + step, stop)) for start in range(first, stop, step)]
