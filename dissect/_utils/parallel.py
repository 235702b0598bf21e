"""Independent pieces of work side by side, each on a core of its own."""

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["one_a_core", "one_thread"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def one_a_core(
    work: Callable[[_Item, threading.Event], _Result], items: Iterable[_Item]
) -> list[_Result]:
    """What `work` makes of each item, in their order; as many at once as torch has threads.

    Inside, torch computes with one thread. Its own threads share every single operation and wait
    for one another, busily, at the end of each: where another program wants a core, most of the
    time goes into that. It also makes the results the same whatever the number of cores.

    Args:
        work: takes an item, and an event that is set when the result is no longer wanted. It runs
            in several threads at once, so that no two items may write to the same thing.
        items: the pieces; each is taken when a thread is free for it.

    Raises:
        what `work` raises; the other pieces are then given up.
    """
    stopped, lock = threading.Event(), threading.Lock()
    ahead = enumerate(items)
    results: dict[int, _Result] = {}

    def work_on() -> None:
        while not stopped.is_set():
            with lock:
                taken = next(ahead, None)
            if taken is None:
                return
            place, item = taken
            results[place] = work(item, stopped)

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                # Hooks that are open here act in the threads, too.
                workers = [
                    pool.submit(contextvars.copy_context().run, work_on) for _ in range(threads)
                ]
                wait(workers, return_when=FIRST_EXCEPTION)
            finally:
                stopped.set()
    finally:
        torch.set_num_threads(threads)
    for worker in workers:
        worker.result()
    return [results[place] for place in sorted(results)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes with one thread: sums are the same whatever the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
