"""Independent pieces of work in parallel, each with one thread of torch."""

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["parallel_map", "single_threaded", "single_threaded_blas"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def parallel_map(
    work: Callable[[_Item, threading.Event], _Result], items: Iterable[_Item]
) -> list[_Result]:
    """The results of `work` for each item, in their order; as many at once as torch has threads.

    Inside, torch computes with one thread, so that the results do not depend on the number of
    cores. Afterwards it has as many threads as before.

    Args:
        work: takes an item, and an event that is set when the result is no longer wanted. It runs
            in several threads at once, so that no two items may write to the same object.
        items: the pieces; each is taken when a thread is about to be free for it.

    Raises:
        what `work` raises; the other pieces are then given up.
    """
    from joblib import Parallel, delayed

    stopped = threading.Event()
    threads = torch.get_num_threads()
    context = contextvars.copy_context()  # hooks that are open here act in the threads, too

    def run(item: _Item) -> _Result | None:
        if stopped.is_set():
            return None
        torch.set_num_threads(1)  # of the thread that it runs in
        try:
            return context.copy().run(work, item, stopped)
        except BaseException:
            stopped.set()
            raise

    with single_threaded():
        pool = Parallel(threads, require="sharedmem", batch_size=1, pre_dispatch="n_jobs")
        results: list[_Result] = pool(delayed(run)(item) for item in items)
    return results


@contextmanager
def single_threaded() -> Iterator[None]:
    """In the block torch computes with one thread: sums do not depend on the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """In the block NumPy and SciPy compute with one thread.

    Each step of a small fit would wait for the second thread, as long as another program has its
    core; and sums in another order differ in the last digit, which a solver magnifies.
    """
    # SciPy brings a BLAS of its own, and a limit holds for what is loaded.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
