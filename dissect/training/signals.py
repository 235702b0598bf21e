"""A clean end between two steps, when the process is asked to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["graceful_shutdown"]

# A scheduler that ends a job sends SIGTERM; Ctrl-C is SIGINT.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def graceful_shutdown() -> Iterator[Callable[[], bool]]:
    """A function that returns whether Ctrl-C or SIGTERM has asked the process to stop.

    The first request only sets it: an exception in the middle of a step would leave one network a
    step ahead of the other. A second request raises KeyboardInterrupt at once. Signals reach the
    main thread alone; in any other thread the function always returns False.
    """
    requested = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
