"""JSON objects that people edit, read field by field; every mistake is one line with its place."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dissect._utils.errors import DissectError
from dissect._utils.io import read_json, write_json
from dissect._utils.schema import finite

__all__ = ["Record", "read_record", "write_record"]


@dataclass(frozen=True)
class Record:
    """A JSON object and where it stands; each method takes one field out, of one type.

    Every method raises `DissectError` naming the place, the field and what it holds instead.
    """

    fields: Mapping[str, Any]
    where: str

    @classmethod
    def of(cls, value: Any, where: str) -> "Record":
        """`value` as a record, where it is a JSON object."""
        if not isinstance(value, dict):
            raise DissectError(f"{where} must be an object {{...}}, not {_shown(value)}")
        return cls(value, where)

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self.fields.get(key) is not None

    def refuse(self, key: str, wanted: str) -> DissectError:
        """The error that says what `key` must be and what it is."""
        if key not in self.fields:
            return DissectError(f"{self.where} has no {key!r}; it must be {wanted}")
        return DissectError(
            f"{self.where}: {key!r} must be {wanted}, not {_shown(self.fields[key])}"
        )

    def text(self, key: str) -> str:
        """A string that is not empty."""
        value = self.fields.get(key)
        if not isinstance(value, str) or not value:
            raise self.refuse(key, "a string that is not empty")
        return value

    def text_or_none(self, key: str) -> str | None:
        """The same, or None where the field is absent or null."""
        return self.text(key) if self.has(key) else None

    def integer(self, key: str, least: int = 0) -> int:
        """A whole number, at least `least`."""
        value = self.fields.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.refuse(key, f"a whole number, at least {least}")
        return value

    def integer_or_none(self, key: str, least: int = 0) -> int | None:
        """The same, or None where the field is absent or null."""
        return self.integer(key, least) if self.has(key) else None

    def number(self, key: str) -> float:
        """A finite number."""
        value = finite(self.fields.get(key))
        if value is None:
            raise self.refuse(key, "a finite number")
        return value

    def records(self, key: str) -> list["Record"]:
        """A list of objects."""
        return [
            Record.of(item, f"{self.where}: {key!r}, number {place},")
            for place, item in enumerate(self.items(key))
        ]

    def items(self, key: str) -> list[Any]:
        """A list of anything."""
        value = self.fields.get(key)
        if not isinstance(value, list):
            raise self.refuse(key, "a list [...]")
        return value

    def numbers(self, key: str, count: int | None = None) -> tuple[float, ...]:
        """A list of finite numbers, `count` of them where it is given."""
        wanted = (
            "a list of finite numbers" if count is None else f"a list of {count} finite numbers"
        )
        values = self.fields.get(key)
        if not isinstance(values, list):
            raise self.refuse(key, wanted)
        found = tuple(value for value in map(finite, values) if value is not None)
        if len(found) != len(values) or (count is not None and len(found) != count):
            raise self.refuse(key, wanted)
        return found

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        values = self.fields.get(key)
        if not isinstance(values, list) or any(
            isinstance(value, bool) or not isinstance(value, int) for value in values
        ):
            raise self.refuse(key, "a list of whole numbers")
        return tuple(values)

    def record(self, key: str) -> "Record":
        """An object inside this one."""
        value = self.fields.get(key)
        if not isinstance(value, dict):
            raise self.refuse(key, "an object {...}")
        return Record(value, f"{self.where}: {key!r}")


def read_record(path: str | Path, kind: str, version: int) -> Record:
    """The record of this kind that the file at `path` holds (see `write_record`).

    Raises:
        DissectError: no such file, not JSON, another kind of file, or a version not known here.
    """
    record = Record.of(read_json(path), str(path))
    if record.fields.get("kind") != kind:
        raise DissectError(
            f"{path} is not a {kind} file: its 'kind' is "
            f"{_shown(record.fields.get('kind'))}, not {kind!r}"
        )
    if record.integer("version", 1) > version:
        raise DissectError(
            f"{path} is of version {record.fields['version']}; this dissect reads up to {version}: "
            "update dissect"
        )
    return record


def write_record(path: str | Path, kind: str, version: int, fields: Mapping[str, Any]) -> Path:
    """`path`, now holding the fields under a heading that says what the file is."""
    return write_json(path, {"kind": kind, "version": version, **fields})


def _shown(value: Any) -> str:
    return reprlib.repr(value)
