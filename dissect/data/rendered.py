"""Procedural images, rendered once and kept: a checked, memory-mapped cache of images and masks."""

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect.data.cache import BlockCache, cache_folder
from dissect.data.protocol import Indices
from dissect.data.workers import Chunk, Render, render_chunks

__all__ = ["RenderedSource", "Renderer", "source_version"]

# A block is checked whole when it is first used, in about 30 ms.
_BLOCK_BYTES = 2**26
# Size of what a worker renders at once.
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, repr=False)
class Renderer(ShortRepr):
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

    They are kept in a `BlockCache`, whose blocks name the renderer, its version, the seed and the
    size; what is read is always what the renderer draws.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        count: int,
        size: int = 64,
        seed: int = 0,
        show_progress: bool | None = None,
        workers: int | None = None,
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        """Open the cache and render what it lacks.

        Args:
            renderer: what draws.
            count: number of images, those of indices 0 to count - 1.
            size: width and height in pixels.
            seed: of the images.
            show_progress: whether to show a progress bar on stderr; None: where that is a terminal.
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
        self._show_progress = show_progress
        self._workers = workers
        self._cache = BlockCache(
            cache_folder() / "rendered" / f"{renderer.name}-{size}px-seed{seed}",
            {
                "format": 1,
                "renderer": renderer.name,
                "version": renderer.version,
                "seed": seed,
                "size": size,
            },
            [(size, size, 3), (size, size)],
            count,
            block_bytes=block_bytes,
        )
        self._complete()

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{self.name}: {self._count} rendered images of {self.size} px, seed {self.seed}>"

    def images(self, indices: Indices) -> NDArray[np.uint8]:
        """The images at `indices`: uint8 (B, size, size, 3), RGB, 0 to 255, a copy."""
        return self._cache.gather(indices, 0, self._complete)

    def masks(self, indices: Indices) -> NDArray[np.uint8]:
        """The class of every pixel at `indices`: uint8 (B, size, size), positions in `classes`."""
        return self._cache.gather(indices, 1, self._complete)

    def listing(self) -> tuple[bytes, ...]:
        """The renderer and the seed."""
        return (f"{self.name} seed {self.seed}".encode(),)

    @property
    def cache_files(self) -> tuple[Path, ...]:
        """The files in which the images are kept."""
        return self._cache.files

    def _complete(self, *blocks: int) -> None:
        self._cache.complete(
            self._render,
            step=max(1, _CHUNK_BYTES // (4 * self.size**2)),
            task=f"rendering {self.name}",
            show_progress=self._show_progress,
            blocks=blocks or None,
        )

    def _render(self, ranges: Sequence[range]) -> Generator[Chunk, None, None]:
        return render_chunks(
            self._renderer.render, ranges, seed=self.seed, size=self.size, workers=self._workers
        )
