"""Progress of work that takes more than a moment: a callback, and a bar on stderr or in a cell."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Protocol

from dissect._utils.distributed import is_main_process

__all__ = ["ProgressCallback", "no_progress", "progress_bar", "with_note"]

# Seconds between two pictures of a bar in a notebook; each is a message to the browser.
_REDRAWN_EVERY = 0.1


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
    description: str = "", total: int | None = None, show: bool | None = None, *, done: int = 0
) -> Iterator[ProgressCallback]:
    """A callback for `progress=` that moves a bar on; the bar goes away at the end of the block.

    In a notebook the bar stands below the cell, elsewhere on stderr.

    Args:
        description: what is being done.
        total: how many steps make it full; None shows how many were done.
        show: None shows it in a notebook and where stderr is a terminal; of several processes, in
            the first.
        done: how many of them were done before.

    >>> import dissect
    >>> G = dissect.load("bedrooms64")
    >>> with dissect.progress_bar("dissecting") as progress:
    ...     found = dissect.network_dissection(
    ...         G, ["layer4x4"], dissect.load_segmenter(), n=16, progress=progress
    ...     )
    """
    cell = _notebook_display()
    if show is None:
        show = is_main_process() and (cell is not None or sys.stderr.isatty())
    if not show:
        yield no_progress
    elif cell is not None:
        yield from _bar_in_cell(cell, description, total, done)
    else:
        yield from _bar_on_stderr(description, total, done)


def _bar_on_stderr(description: str, total: int | None, done: int) -> Iterator[ProgressCallback]:
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


def _notebook_display() -> Any:
    """IPython's `display` where a notebook runs this, else None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    # A shell in a terminal has no kernel.
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    return display


def _bar_in_cell(
    display: Any, description: str, total: int | None, done: int
) -> Iterator[ProgressCallback]:
    """Plain HTML, replaced in place: widgets would need a package of their own."""
    count, drawn = done, 0.0
    lock = threading.Lock()

    def bundle(note: str) -> dict[str, str]:
        of = f"{count:,}" if total is None else f"{count:,}/{total:,}"
        value = "" if total is None else f' value="{count}" max="{total}"'
        text = " ".join(part for part in (of, note) if part)
        return {
            "text/plain": f"{description} {text}".strip(),
            "text/html": f"{escape(description)} <progress{value}></progress> {escape(text)}",
        }

    handle = display(bundle(""), raw=True, display_id=True)

    def advance(n: int, note: str = "", /) -> None:
        nonlocal count, drawn
        with lock:
            count += n
            if time.monotonic() - drawn >= _REDRAWN_EVERY:
                drawn = time.monotonic()
                handle.update(bundle(note), raw=True)

    try:
        yield advance
    finally:
        handle.update({"text/plain": "", "text/html": ""}, raw=True)
