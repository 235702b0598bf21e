"""How an object shows itself: one short line, and in a notebook a small table with its picture."""

import base64
import html
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from dissect._utils.errors import DissectError

if TYPE_CHECKING:
    import pandas

__all__ = ["LONGEST_REPR", "Displayed", "ShortRepr", "brief", "set_picture_of", "shortened"]

LONGEST_REPR = 200
_DIGITS = 4
# Of a table in a notebook; `to_frame` has all rows.
_ROWS_SHOWN = 8
_LONGEST_CELL = 60
# Numbers of a tuple that are shown; of more, how many there are.
_NUMBERS_SHOWN = 4

# A result can be drawn only by a room above it, so the package's top gives the function.
_picture_of: Callable[[Any], bytes | None] = lambda _: None  # noqa: E731


def set_picture_of(function: Callable[[Any], bytes | None]) -> None:
    """Let `function` draw what a notebook shows below a table: a PNG, or None for no picture."""
    global _picture_of
    _picture_of = function


class ShortRepr:
    """A dataclass whose repr is one line of at most 200 characters, whatever it holds.

    The dataclass has `repr=False`. Arrays and tensors stand in it by their shapes, long sequences
    and mappings by their lengths.
    """

    def __repr__(self) -> str:
        shown = ((one.name, getattr(self, one.name)) for one in fields(self) if one.repr)  # type: ignore[arg-type]
        facts = (f"{name}={brief(value)}" for name, value in shown if value is not None)
        return shortened(f"{type(self).__name__}({', '.join(facts)})")


class Displayed:
    """What shows itself by a `summary` in one line and by `rows` as a table."""

    def summary(self) -> dict[str, Any]:
        """The few facts that stand in `repr`."""
        raise NotImplementedError

    def rows(self) -> list[dict[str, Any]]:
        """The rows of its table; by default one, of `summary`."""
        return [self.summary()]

    def to_frame(self) -> "pandas.DataFrame":
        """The rows as a pandas data frame.

        Raises:
            DissectError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise DissectError("to_frame needs pandas: pip install pandas") from error
        return pandas.DataFrame(self.rows())

    def __repr__(self) -> str:
        facts = (f"{name}={brief(value)}" for name, value in self.summary().items())
        return shortened(f"{type(self).__name__}({', '.join(facts)})")

    def _repr_html_(self) -> str:
        """The first rows as a table, and the picture where there is one, as a notebook shows it."""
        rows = self.rows()
        shown = rows[:_ROWS_SHOWN]
        names = list(dict.fromkeys(name for row in shown for name in row))
        parts = [
            f"<table><caption>{html.escape(repr(self))}</caption><thead><tr>",
            *(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in names),
            "</tr></thead><tbody>",
        ]
        for row in shown:
            cells = (_cell(row.get(name, "")) for name in names)
            parts.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        parts.append("</tbody></table>")
        if hidden := len(rows) - len(shown):
            plural = "row" if hidden == 1 else "rows"
            parts.append(f"<p>and {hidden:,} {plural} more: to_frame() has all</p>")
        if png := _picture_of(self):
            data = base64.b64encode(png).decode()
            parts.append(f'<img alt="{type(self).__name__}" src="data:image/png;base64,{data}">')
        return f"<div>{''.join(parts)}</div>"


def shortened(text: str, longest: int = LONGEST_REPR) -> str:
    """`text` in one line; where it is too long, its beginning and its last character."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 4]}...{line[-1]}"


def brief(value: Any) -> str:
    """`value` in a few words: four digits of a number, the shape of an array, a length."""
    if isinstance(value, str):
        return value
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Real) and not isinstance(value, bool):
        return f"{float(value):.{_DIGITS}g}"
    shape = getattr(value, "shape", None)
    if isinstance(shape, Sequence):
        return f"{type(value).__name__.lower()} {'x'.join(map(str, shape)) or 'of one number'}"
    if isinstance(value, Mapping):
        return f"{len(value)} items"
    if isinstance(value, Sequence):
        if len(value) > _NUMBERS_SHOWN or any(isinstance(one, Sized) for one in value):
            return f"{len(value)} items"
        return f"({', '.join(map(brief, value))})"
    if callable(value) and not isinstance(value, ShortRepr | Displayed):
        return getattr(value, "__qualname__", type(value).__name__).rpartition(".")[2]
    return repr(value)


def _cell(value: Any) -> str:
    return html.escape(shortened(brief(value), _LONGEST_CELL))
