"""Commands: help with names whole at 80 columns, and values that can be worked with."""

import inspect
import math
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

__all__ = ["Command", "Group"]

# Other options may be given again, as in scripts that add to a command's words: the last counts.
_NOT_SEVERAL = ("layer",)
_LARGEST = 2**32 - 1  # of whole numbers without a limit of their own


class _ShortTypes:
    """Help that shows a type in one short word, and none for a flag."""

    params: list[Any]
    callback: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.callback is None:
            return
        parameters = inspect.signature(self.callback).parameters
        for option in self.params:
            if isinstance(option, TyperOption) and option.metavar is None:
                option.metavar = _short_type(parameters[str(option.name)].annotation)

    def get_help_option(self, ctx: Any) -> Any:
        """The option `--help`, without the type that typer shows for it."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.metavar = ""
        return option


class Command(_ShortTypes, TyperCommand):
    """A command with short types in its help, which refuses numbers and paths out of all bounds."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Read the command line.

        Raises:
            typer.BadParameter: an option given twice that takes one value, though it might be
                thought to take several: all but the last would be dropped.
        """
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        for option in self.params:
            if option.name in _NOT_SEVERAL and not option.multiple and order.count(option) > 1:
                raise typer.BadParameter("given twice; give it once", ctx=ctx, param=option)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            typer.BadParameter: a number that is not finite or too large, or a NUL character.
        """
        for option in self.params:
            values = ctx.params.get(option.name)
            for value in values if isinstance(values, list | tuple) else [values]:
                if reason := _out_of_bounds(value):
                    raise typer.BadParameter(reason, ctx=ctx, param=option)
        return super().invoke(ctx)


class Group(_ShortTypes, TyperGroup):
    """A group of commands with short types in its help."""


def _out_of_bounds(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number."
    if isinstance(value, int) and abs(value) > _LARGEST:
        return f"{value} is too large: at most {_LARGEST}."
    return "A text cannot hold the character NUL." if "\0" in str(value) else ""


def _short_type(annotation: Any) -> str:
    """`<int>` of `Annotated[list[int] | None, ...]`, whose option is given once for each value."""
    kind = get_origin(annotation)
    if kind is Annotated:
        return _short_type(get_args(annotation)[0])
    if kind in (Union, UnionType, list):
        return _short_type(next(one for one in get_args(annotation) if one is not NoneType))
    return "" if annotation is bool else f"<{annotation.__name__.lower()}>"
