"""Which options of a command line were given, and those that have no use beside others."""

from typing import Any

import typer

from dissect._utils.errors import DissectError

__all__ = ["Given"]


class Given:
    """Which options the command line names; a command has it as a parameter of this type."""

    def __init__(self, context: typer.Context) -> None:
        """Of the command that typer runs in this context."""
        self._context = context

    def __contains__(self, name: str) -> bool:
        """Whether the option of this parameter was written."""
        source = self._context.get_parameter_source(name)
        return getattr(source, "name", "") == "COMMANDLINE"

    def values(self) -> dict[str, Any]:
        """The values that were written, by the names of their parameters."""
        return {name: value for name, value in self._context.params.items() if name in self}

    def refuse(self, where: str, *names: str) -> None:
        """Refuse options that would do nothing.

        Args:
            where: what makes them idle, as in "with --direction".
            names: of their parameters.

        Raises:
            DissectError: one of them was written.
        """
        for option in self._context.command.params:
            if option.name in names and option.name in self:
                raise DissectError(
                    f"{max(option.opts, key=len)} does nothing {where}: leave it out"
                )
