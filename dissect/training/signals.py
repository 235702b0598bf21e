"""A clean end between two steps, when the process is asked to stop."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from dissect._utils.distributed import ProcessGroup

__all__ = ["AgreedStop", "StopRequest", "Stopped", "graceful_shutdown"]

# Several processes ask one another every so many seconds, or every so many steps if they are quick.
_SECONDS, _STEPS = 2.0, 10

# Ctrl-C; a scheduler that ends a job; a closed terminal; the warnings of a scheduler before the
# time is up, and the soft limit on processor time. SIGQUIT is left alone: it ends at once.
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK")
    if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """The process was asked to stop, and has saved what it had.

    Attributes:
        signal: the number of the signal that asked first.
    """

    def __init__(self, number: int) -> None:
        """By signal `number`."""
        super().__init__(signal.Signals(number).name)
        self.signal = number


class StopRequest:
    """Which signal, if any, has asked this process to stop."""

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def graceful_shutdown() -> Iterator[StopRequest]:
    """A request that becomes true when a signal asks the process to stop.

    A signal only sets it: an exception in the middle of a step would leave one network a step
    ahead of the other. Schedulers and `torchrun` send more than one; the others change nothing.
    A signal that is ignored, as SIGHUP under nohup, stays ignored. Signals reach the main thread
    alone; in any other thread the request never becomes true.
    """
    request = StopRequest()

    def handle(number: int, _frame: FrameType | None) -> None:
        if not request:
            request.signal = number

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    handled = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        for number in handled:
            signal.signal(number, before[number] or signal.SIG_DFL)


class AgreedStop:
    """Whether any process of a group was asked to stop: all get the same answer at the same step.

    Asking costs time, and so it is done at steps on which all agree, about two seconds apart.
    `torchrun` kills its processes 30 seconds after it has passed a signal on.
    """

    def __init__(
        self, request: StopRequest, group: ProcessGroup, device: torch.device, step: int
    ) -> None:
        """Of a run that is at `step`; `device` is where the processes exchange values."""
        self._request, self._group, self._device = request, group, device
        self._asked, self._next, self._clock = step, step + 1, time.perf_counter()

    def __call__(self, step: int) -> bool:
        """Whether to stop after `step`."""
        if self._group.size == 1:
            return bool(self._request)
        if step < self._next:
            return False
        now = time.perf_counter()
        seconds = (now - self._clock) / (step - self._asked)
        values = torch.tensor([float(bool(self._request)), seconds], device=self._device)
        requested, seconds = self._group.mean(values).tolist()
        interval = max(1, min(_STEPS, int(_SECONDS / max(seconds, 1e-6))))
        self._asked, self._next, self._clock = step, step + interval, now
        return bool(requested > 0)
