"""Layers that give several values: which of them is the activation, and how it is put back."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

__all__ = ["with_tensor"]


def with_tensor(output: Any, function: Callable[[Any], Tensor | None]) -> Any:
    """The output with what `function` makes of its first tensor; None where that is None.

    A layer may give a tuple, a list, a mapping or a dataclass. Its activation is the first tensor
    in it, as the hidden states of a recurrent layer, the values of an attention, or the features
    of a block that gives an image beside them. The result has the class of the output, and the
    same other values; the output itself is not changed. Where there is no tensor, `function` is
    given the output.
    """
    found = _first(output)
    if found is None:
        return function(output)
    path, tensor = found
    new = function(tensor)
    return None if new is None else _replaced(output, path, new)


def _first(value: Any) -> tuple[tuple[Any, ...], Tensor] | None:
    """Where the first tensor is, and the tensor."""
    if isinstance(value, Tensor):
        return (), value
    for key, part in _parts(value):
        found = _first(part)
        if found is not None:
            return (key, *found[0]), found[1]
    return None


def _parts(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, tuple | list):
        return list(enumerate(value))
    if isinstance(value, Mapping):
        return list(value.items())
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return []


def _replaced(value: Any, path: tuple[Any, ...], new: Tensor) -> Any:
    if not path:
        return new
    key, *below = path
    if isinstance(value, tuple):
        parts = [_replaced(p, tuple(below), new) if k == key else p for k, p in enumerate(value)]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    changed = copy.copy(value)
    if isinstance(value, list | Mapping):
        changed[key] = _replaced(value[key], tuple(below), new)
    else:
        object.__setattr__(changed, key, _replaced(getattr(value, key), tuple(below), new))
    return changed
