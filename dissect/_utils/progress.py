"""A progress bar on stderr, for work that takes more than a moment."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from dissect._utils.voice import is_first

__all__ = ["Advance", "progress_bar"]


class Advance(Protocol):
    """Moves a bar on."""

    def __call__(self, n: int, note: str = "", /) -> None:
        """Move the bar on by `n`, and show `note` behind the time left."""


@contextmanager
def progress_bar(
    description: str, total: int, show: bool | None = None, *, done: int = 0
) -> Iterator[Advance]:
    """A function that moves the bar on by n; the bar goes away at the end of the block.

    Args:
        description: what is being done.
        total: how many steps make it full.
        show: None shows it where stderr is a terminal; of several processes, in the first.
        done: how many of them were done before.
    """
    if not (sys.stderr.isatty() and is_first() if show is None else show):
        yield lambda n, note="", /: None
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
