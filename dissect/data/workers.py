"""Rendering on every core."""

import functools
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError

__all__ = ["Chunk", "Render", "render_chunks"]

Chunk: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Render: TypeAlias = Callable[[int, int, int], Chunk]

# Below this many images one core is done before a worker has started.
_WORTH_WORKERS = 256


def render_chunks(
    render: Render,
    ranges: Sequence[range],
    *,
    seed: int,
    size: int,
    workers: int | None = None,
) -> Generator[Chunk, None, None]:
    """Images and masks of each range of indices, in order.

    They are uint8 of shapes (rows, size, size, 3) and (rows, size, size).

    Args:
        render: `render(index, seed, size)` gives image (size, size, 3) and mask (size, size), both
            uint8.
        ranges: ranges of indices.
        seed: passed on.
        size: passed on.
        workers: how many processes; by default one a core, and none for a small number of images.

    Raises:
        DissectError: a worker was killed.
    """
    from joblib import Parallel, cpu_count, delayed

    if workers is None:
        workers = cpu_count() if sum(map(len, ranges)) >= _WORTH_WORKERS else 1
    if workers < 2 or len(ranges) < 2:
        for rows in ranges:
            yield _render_range(render, rows, seed, size)
        return
    # Processes of loky do not import the user's script again, as those of multiprocessing do.
    run = Parallel(workers, backend="loky", return_as="generator", batch_size=1)
    chunks: Iterator[Chunk | Exception] = run(
        delayed(_render_in_worker)(render, rows, seed, size, os.getpid()) for rows in ranges
    )
    try:
        for chunk in chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
    except BrokenProcessPool as error:
        raise DissectError(
            "a process that was rendering was killed; begin again, what is complete is kept"
        ) from error


def _render_in_worker(
    render: Render, rows: range, seed: int, size: int, parent: int
) -> Chunk | Exception:
    """The chunk, or the error that it met: joblib would raise it before the chunks in front."""
    _end_with(parent)
    try:
        return _render_range(render, rows, seed, size)
    except Exception as error:
        return error


@functools.cache
def _end_with(parent: int) -> None:
    """End this process soon after its parent, which may be killed before it can say so."""

    def wait_for_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()


def _render_range(render: Render, rows: range, seed: int, size: int) -> Chunk:
    images = np.empty((len(rows), size, size, 3), np.uint8)
    masks = np.empty((len(rows), size, size), np.uint8)
    for row, index in enumerate(rows):
        image, mask = render(index, seed, size)
        if image.shape != images.shape[1:] or mask.shape != masks.shape[1:]:
            raise ValueError(
                f"the renderer gave an image {image.shape} and a mask {mask.shape} at size {size}"
            )
        if image.dtype != np.uint8 or mask.dtype != np.uint8:
            raise TypeError(f"the renderer gave {image.dtype} and {mask.dtype}, not uint8")
        images[row], masks[row] = image, mask
    return images, masks
