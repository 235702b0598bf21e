"""Progress of work that takes more than a moment: a callback, and a bar on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from dissect._utils.distributed import is_main_process

__all__ = ["ProgressCallback", "no_progress", "progress_bar", "with_note"]


class ProgressCallback(Protocol):
    """What every function that takes a while calls, through its argument `progress`."""

    def __call__(self, n: int, note: str = "", /) -> None:
        """Report `n` further steps, and what is being done."""


def no_progress(n: int, note: str = "", /) -> None:
    """Report nothing: the default."""


def with_note(progress: ProgressCallback, note: str) -> ProgressCallback:
    """A callback that reports to `progress` under a fixed note."""
    return lambda n, _="", /: progress(n, note)


@contextmanager
def progress_bar(
    description: str, total: int, show: bool | None = None, *, done: int = 0
) -> Iterator[ProgressCallback]:
    """A callback that moves a bar on; the bar goes away at the end of the block.

    Args:
        description: what is being done.
        total: how many steps make it full.
        show: None shows it where stderr is a terminal; of several processes, in the first.
        done: how many of them were done before.
    """
    if not (sys.stderr.isatty() and is_main_process() if show is None else show):
        yield no_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeRemaining

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemaining(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, completed=done, note="")

        def advance(n: int, note: str = "", /) -> None:
            bar.update(task, advance=n, note=note)

        yield advance
