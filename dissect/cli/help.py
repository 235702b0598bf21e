"""The help of a command: names whole at 80 columns, no type beside a flag."""

from typing import Any

from typer.core import TyperCommand, TyperOption

__all__ = ["Command"]


class Command(TyperCommand):
    """A command whose help shows a type in one short word, and none for a flag."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for parameter in self.params:
            if isinstance(parameter, TyperOption) and parameter.metavar is None:
                parameter.metavar = _short_type(parameter)

    def get_help_option(self, ctx: Any) -> Any:
        """The option `--help`, without the type that typer shows for it."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.metavar = ""
        return option


def _short_type(option: TyperOption) -> str:
    if option.is_flag:
        return ""
    # What a list repeats: its option is given once for each value.
    name = option.bare_type().removeprefix("list[").removesuffix("]")
    return f"<{name.lower()}>"
