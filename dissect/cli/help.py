"""The help of a command: names whole at 80 columns, no type beside a flag."""

from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption

__all__ = ["Command", "Group"]


class _ShortTypes:
    """Help that shows a type in one short word, and none for a flag."""

    params: list[Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for parameter in self.params:
            if isinstance(parameter, TyperOption) and parameter.metavar is None:
                parameter.metavar = _short_type(parameter)

    def get_help_option(self, ctx: Any) -> Any:
        """The option `--help`, without the type that typer shows for it."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.metavar = ""
        return option


class Command(_ShortTypes, TyperCommand):
    """A command with short types in its help."""


class Group(_ShortTypes, TyperGroup):
    """A group of commands with short types in its help."""


def _short_type(option: TyperOption) -> str:
    if option.is_flag:
        return ""
    # What a list repeats: its option is given once for each value.
    name = option.bare_type().removeprefix("list[").removesuffix("]")
    return f"<{name.lower()}>"
