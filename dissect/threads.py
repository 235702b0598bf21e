"""Independent pieces of work side by side, each on a core of its own."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["one_a_core"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def one_a_core(
    work: Callable[[_Item, threading.Event], _Result], items: Sequence[_Item]
) -> list[_Result]:
    """What `work` makes of each item, in their order; as many at once as torch has threads.

    Inside, torch computes with one thread. Its own threads share every single operation and wait
    for one another, busily, at the end of each: where another program wants a core, most of the
    time goes into that. It also makes the results the same whatever the number of cores.

    Args:
        work: takes an item, and an event that is set when the result is no longer wanted. It runs
            in several threads at once, so that no two items may write to the same thing.
        items: the pieces.

    Raises:
        what `work` raises; the other pieces are then given up.
    """
    stopped = threading.Event()
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        max(1, min(threads, len(items))), initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        return list(pool.map(work, items, [stopped] * len(items)))
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
