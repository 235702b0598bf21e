"""Being asked to stop, and doing so between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_requests"]

# A scheduler that ends a job sends SIGTERM; Ctrl-C is SIGINT.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """A function that says whether the process was asked to stop, by Ctrl-C or SIGTERM.

    The first request only makes it say so: an exception in the middle of a step would leave one
    network a step ahead of the other. A second one is KeyboardInterrupt, for whoever will not wait.
    In a thread, which signals do not reach, it never says so.
    """
    asked = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
