"""Files that people edit: JSON checked against a model, every mistake one line with its place.

class UnitsFile(FileModel):
    KIND: ClassVar[str] = "units"
    layer: NonEmpty
    indices: tuple[int, ...]

found = read_file("units.json", UnitsFile)
write_file("units.json", found)
"""

import json
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dissect._utils.errors import DissectError
from dissect._utils.io import read_json, write_json
from dissect._utils.text import near_names

__all__ = ["FileModel", "NonEmpty", "parse", "read_file", "write_file"]

# An unknown field of a model, and of a dataclass.
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")

NonEmpty = Annotated[str, Field(min_length=1)]

_Model = TypeVar("_Model", bound=BaseModel)
_File = TypeVar("_File", bound="FileModel")


class FileModel(BaseModel):
    """A kind of file, or an object inside one: typed fields, none converted, none unknown.

    Numbers are finite; a list is read into a tuple. A subclass that is a whole file says its
    `KIND`, and raises `VERSION` where older programs could not read it.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    KIND: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1


def parse(model: type[_Model], value: Any, where: str, *, strings: bool = False) -> _Model:
    """`value`, as `json.loads` gives it, checked against `model`.

    Args:
        model: any pydantic model.
        value: an object of JSON.
        where: what the value is called in an error, such as the file's path.
        strings: every value is a string, as in a query, and numbers are read from them.

    Raises:
        DissectError: one line that names the place, the field, what it must be and what it holds.
    """
    if not isinstance(value, Mapping):
        raise DissectError(f"{where} must be an object {{...}}, not {reprlib.repr(value)}")
    try:
        if strings:
            return model.model_validate_strings(value)
        # As JSON: there alone a strict model reads a list into a tuple.
        return model.model_validate_json(json.dumps(value))
    except ValidationError as error:
        raise DissectError(_one_line(error, model, where)) from error
    except DissectError as error:  # a dataclass among the fields refuses its values
        raise DissectError(f"{where}: {error}") from error


def read_file(path: str | Path, model: type[_File]) -> _File:
    """The file at `path`, checked against `model` and its heading.

    Raises:
        DissectError: no such file, not JSON, another kind of file, a version not known here, or
            a field that is missing, unknown, or of a wrong type or value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DissectError(f"{path} must be an object {{...}}, not {reprlib.repr(value)}")
    fields = dict(value)
    kind, version = fields.pop("kind", None), fields.pop("version", None)
    if kind != model.KIND:
        raise DissectError(
            f"{path} is not a {model.KIND} file: its 'kind' is {reprlib.repr(kind)}, "
            f"not {model.KIND!r}"
        )
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise DissectError(f"{path}: 'version' must be a whole number, at least 1")
    if version > model.VERSION:
        raise DissectError(
            f"{path} is of version {version}; this dissect reads up to {model.VERSION}: "
            "update dissect"
        )
    return parse(model, fields, str(path))


def write_file(path: str | Path, content: FileModel, *, force: bool = True) -> Path:
    """`path`, now holding `content` under a heading that says what the file is.

    Raises:
        DissectError: the file cannot be written.
    """
    heading = {"kind": content.KIND, "version": content.VERSION}
    return write_json(path, {**heading, **content.model_dump(mode="json")}, force=force)


def _one_line(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """The first mistake, and how many others there are."""
    mistakes = error.errors(include_url=False)
    first = mistakes[0]
    *outer, last = first["loc"] or ("",)
    inside = f"{where}: {_path(outer)!r}" if outer else where
    rest = "" if len(mistakes) == 1 else f" (and {len(mistakes) - 1} more)"
    shown = reprlib.repr(first["input"])
    if first["type"] == "missing":
        return f"{inside} has no {last!r}{rest}"
    if first["type"] in _UNKNOWN:
        known = _fields_at(model, outer)
        return f"{inside} does not know {last!r}; it knows {near_names(str(last), known)}{rest}"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{where}: {_path(first['loc'])!r} {message}, not {shown}{rest}"


def _path(places: Iterable[int | str]) -> str:
    """`units[3].weight`."""
    text = ""
    for place in places:
        text += f"[{place}]" if isinstance(place, int) else f".{place}" if text else str(place)
    return text


def _fields_at(model: type[BaseModel], places: Iterable[int | str]) -> list[str]:
    """The fields of the object at a place inside a file; those of the file where it is unclear."""
    here: Any = model
    for place in places:
        if isinstance(place, int):
            continue
        inner = _object_in(get_type_hints(here).get(place))
        if inner is None:
            break
        here = inner
    return list(here.model_fields if issubclass(here, BaseModel) else here.__dataclass_fields__)


def _object_in(annotation: Any) -> type | None:
    """The model or dataclass that a type is, or holds."""
    if isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or is_dataclass(annotation)
    ):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if (found := _object_in(part)) is not None:
            return found
    return None
