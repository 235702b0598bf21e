"""The application: its commands, and the one place where an error becomes a line."""

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, NoReturn, TextIO

import typer

from dissect._utils.distributed import is_main_process, print_once
from dissect._utils.errors import DissectError
from dissect.cli import (
    ablate,
    arithmetic,
    classify,
    data,
    dedup,
    effect,
    evaluate,
    export,
    guided,
    insert,
    layers,
    probe,
    rules,
    sample,
    search,
    segment,
    studio,
    swap,
    train,
    train_attributes,
    train_segmenter,
    turn,
    units,
    walk,
)
from dissect.cli.help import Command, Group

__all__ = ["app", "main"]

app = typer.Typer(
    name="dissect",
    cls=Group,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find which units of a GAN draw a concept, prove it by removing them, save the edited "
    "generator.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from dissect import __version__

        print(f"dissect {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every command. `--debug` may stand anywhere; `main` reads it."""


# Every command by its panel in `dissect --help`; a module has one for each of its functions.
_COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Find and edit": (
        *(probe.probe, ablate.ablate, insert.insert, swap.swap, export.export, effect.effect),
        *(rules.rules, search.search, units.units, guided.guided, layers.layers),
    ),
    "Draw boxes and explore in the browser": (studio.annotate, studio.studio),
    "Latent space": (sample.sample, walk.walk, arithmetic.arithmetic, turn.turn),
    "Train, and prepare images": (
        *(train.train, train_segmenter.train_segmenter, train_attributes.train_attributes),
        dedup.dedup,
    ),
    "Measure other networks": (classify.classify, segment.segment),
}
for _panel, _functions in _COMMANDS.items():
    for _function in _functions:
        _name = _function.__name__.replace("_", "-")
        app.command(_name, cls=Command, rich_help_panel=_panel)(_function)
app.add_typer(data.app, name="data", cls=Group, rich_help_panel="Train, and prepare images")
app.add_typer(evaluate.app, name="evaluate", cls=Group, rich_help_panel="Measure other networks")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit status.

    A user's mistake is one line on stderr and status 2, whether one process makes it or several
    that work together. Ctrl-C is status 130, and any other signal that a training ends by is 128
    and its number, as shells count.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    _prepare_streams()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            status = app(args=words, prog_name="dissect", standalone_mode=False)
        sys.stdout.flush()
    except DissectError as error:
        if debug:
            raise
        _fail(str(error))
    except KeyboardInterrupt as error:
        _interrupted(getattr(error, "signal", signal.SIGINT))
    except BrokenPipeError:
        # The reader of our output left (as `head` does), and nobody is there to read more.
        _discard_stdout()
        sys.exit(1)
    except OSError as error:
        # A full disk behind stdout, most often; what files say is a DissectError long before.
        if debug:
            raise
        _discard_stdout()
        _fail(f"{error.filename or 'cannot print the result'}: {error.strerror or error}")
    except typer.Abort:
        _interrupted(signal.SIGINT)
    except Exception as error:
        # Typer's own errors (an unknown option, a value of the wrong type) know their message.
        if debug or not hasattr(error, "format_message"):
            raise
        _fail(_usage_message(error))
    sys.exit(status if isinstance(status, int) else 0)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Say a warning of the library in one line."""
    if is_main_process():
        print(f"warning: {message}", file=sys.stderr, flush=True)


def _prepare_streams() -> None:
    """Let no character and no closed stream end a command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this process
            setattr(sys, name, io.StringIO())
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            # Terminals and pipes that are not UTF-8 have no letter for every name.
            stream.reconfigure(errors="replace")
    sys.stderr = _Remarks(sys.stderr)


class _Remarks:
    """stderr, which may get lost: a terminal that is gone or a full disk ends no command."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _discard_stdout() -> None:
    # What could not be printed would fail once more when Python ends.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_message(error: Exception) -> str:
    message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    if not message:
        return "no command given; see dissect --help"
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "dissect")
    return f"{message} See: {path} --help"


def _fail(message: str) -> NoReturn:
    print_once(f"dissect: {' '.join(message.split())}")
    sys.exit(2)


def _interrupted(number: int) -> NoReturn:
    # All processes are interrupted together, and `torchrun` with them.
    if is_main_process():
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        print(f"interrupted{by}", file=sys.stderr)
    sys.exit(128 + number)
