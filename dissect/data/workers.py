"""Rendering on every core.

The workers are plain child processes that talk over pipes, not `multiprocessing`: that one would
import the user's script again in each child (which must then be guarded) or fork a process that
holds torch's threads, and its children outlive a parent that is killed. These end with the pipe.
"""

import importlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chunk", "Render", "available_cores", "render_chunks"]

Chunk: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Render: TypeAlias = Callable[[int, int, int], Chunk]

# Below this many images one core is done before a worker has started.
_WORTH_WORKERS = 256


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def render_chunks(
    render: Render,
    ranges: Sequence[tuple[int, int]],
    *,
    seed: int,
    size: int,
    workers: int | None = None,
) -> Generator[Chunk, None, None]:
    """Images and masks of each (start, stop) of `ranges`, in order.

    They are uint8 of shapes (stop - start, size, size, 3) and (stop - start, size, size).

    Args:
        render: `render(index, seed, size)` gives image (size, size, 3) and mask (size, size), both
            uint8. A function that a new process can import runs in workers; any other (a lambda, a
            function of a notebook) runs here.
        ranges: ranges of indices.
        seed: passed on.
        size: passed on.
        workers: how many processes; by default one a core, and none for a small number of images.
    """
    if workers is None:
        enough = sum(stop - start for start, stop in ranges) >= _WORTH_WORKERS
        workers = available_cores() if enough else 1
    home = _home(render)
    if workers < 2 or len(ranges) < 2 or home is None:
        for start, stop in ranges:
            yield _render_range(render, start, stop, seed, size)
        return
    pool = [_Worker(*home) for _ in range(min(workers, len(ranges)))]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in pool:
        idle.put(worker)

    def run(bounds: tuple[int, int]) -> Chunk | None:
        worker = idle.get()
        try:
            return worker.render(*bounds, seed, size)
        finally:
            idle.put(worker)

    def finished(bounds: tuple[int, int], chunk: Future[Chunk | None]) -> Chunk:
        # A worker that failed is not asked why: doing its work here raises the true error, or
        # goes on where the worker was merely killed.
        return chunk.result() or _render_range(render, *bounds, seed, size)

    threads = ThreadPoolExecutor(len(pool))
    pending: deque[tuple[tuple[int, int], Future[Chunk | None]]] = deque()
    try:
        for bounds in ranges:
            pending.append((bounds, threads.submit(run, bounds)))
            # Workers run ahead of a slow disk by this much and no more.
            if len(pending) > 2 * len(pool):
                yield finished(*pending.popleft())
        while pending:
            yield finished(*pending.popleft())
    finally:
        for worker in pool:
            worker.kill()
        threads.shutdown(cancel_futures=True)


def _render_range(render: Render, start: int, stop: int, seed: int, size: int) -> Chunk:
    images = np.empty((stop - start, size, size, 3), np.uint8)
    masks = np.empty((stop - start, size, size), np.uint8)
    for row, index in enumerate(range(start, stop)):
        image, mask = render(index, seed, size)
        if image.shape != images.shape[1:] or mask.shape != masks.shape[1:]:
            raise ValueError(
                f"the renderer gave an image {image.shape} and a mask {mask.shape} at size {size}"
            )
        if image.dtype != np.uint8 or mask.dtype != np.uint8:
            raise TypeError(f"the renderer gave {image.dtype} and {mask.dtype}, not uint8")
        images[row], masks[row] = image, mask
    return images, masks


def _home(render: Render) -> tuple[str, str] | None:
    """Module and name by which another process finds `render`, if it can."""
    module, name = getattr(render, "__module__", None), getattr(render, "__qualname__", "")
    if module in (None, "__main__") or not sys.executable:
        return None
    return (module, name) if getattr(sys.modules.get(module), name, None) is render else None


class _Worker:
    """A child process that renders ranges."""

    def __init__(self, module: str, name: str) -> None:
        program = "import sys; from dissect.data.workers import serve; serve(*sys.argv[1:])"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, module, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def render(self, start: int, stop: int, seed: int, size: int) -> Chunk | None:
        """The range, or None where the process has failed."""
        commands, replies = self._process.stdin, self._process.stdout
        if commands is None or replies is None:
            return None
        images = np.empty((stop - start, size, size, 3), np.uint8)
        masks = np.empty((stop - start, size, size), np.uint8)
        try:
            commands.write(f"{start} {stop} {seed} {size}\n".encode())
            commands.flush()
            whole = all(_read_into(replies, part) for part in (images, masks))
        except (OSError, ValueError):
            return None
        return (images, masks) if whole else None

    def kill(self) -> None:
        """End the process; a thread that waits for it gets None."""
        self._process.kill()
        self._process.wait()


def _read_into(stream: object, array: NDArray[np.uint8]) -> bool:
    view = array.data.cast("B")
    while view:
        read = stream.readinto(view)  # type: ignore[attr-defined]
        if not read:
            return False
        view = view[read:]
    return True


def serve(module: str, name: str) -> None:
    """What a worker runs: for each line `start stop seed size` of stdin, the pixels on stdout."""
    # Ctrl-C reaches the whole group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a renderer prints must not mix with the pixels.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    render: Render = getattr(importlib.import_module(module), name)
    for line in sys.stdin:
        for part in _render_range(render, *map(int, line.split())):
            replies.write(part.data.cast("B"))
        replies.flush()
