"""What a measurement gives: frozen dataclasses that print in one line and export themselves."""

import math
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from dissect._utils.display import Displayed
from dissect._utils.errors import DissectError
from dissect._utils.io import write_json

__all__ = ["Result", "to_plain"]


class Result(Displayed):
    """The base of every result; a subclass is a dataclass with `repr=False`.

    A subclass may say more briefly what it holds (`summary`), and what the rows of its table are
    (`rows`). Both are used by everything that shows it.
    """

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them: tensors and arrays as lists, what is not a number as None.

        Returns:
            A dictionary of plain values.
        """
        return {one.name: to_plain(getattr(self, one.name)) for one in fields(self)}  # type: ignore[arg-type]

    def save_json(self, path: str | Path) -> Path:
        """`path`, now holding `to_dict()` as JSON.

        Raises:
            DissectError: the file cannot be written.
        """
        return write_json(path, self.to_dict())

    def summary(self) -> dict[str, Any]:
        """The few facts that stand in `repr`; by default the fields that are single values."""
        return {
            one.name: value
            for one in fields(self)  # type: ignore[arg-type]
            if isinstance(value := getattr(self, one.name), str | bool | int | float)
        }


def to_plain(value: Any) -> Any:
    """`value` as JSON has it; what is not finite becomes None.

    Raises:
        DissectError: something that JSON has no word for.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Enum):
        return to_plain(value.value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {one.name: to_plain(getattr(value, one.name)) for one in fields(value)}
    raise DissectError(f"{type(value).__name__} has no form in JSON")
