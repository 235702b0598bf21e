"""Inputs of a generator beside its latents: their names, their values, and these as text."""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dissect._utils.errors import DissectError

__all__ = ["argument", "optional_inputs", "parsed", "required_inputs", "short_text"]

_USUAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def required_inputs(forward: Callable[..., Any]) -> list[str]:
    """Names of what a forward function needs beside its first argument, the latents."""
    taken = list(inspect.signature(forward).parameters.values())
    positional = [one.name for one in taken if one.kind in _USUAL]
    return [
        one.name
        for one in taken
        if one.default is inspect.Parameter.empty
        and (one.kind is inspect.Parameter.KEYWORD_ONLY or one.name in positional[1:])
    ]


def optional_inputs(forward: Callable[..., Any]) -> dict[str, Any]:
    """Names and defaults of what a forward function can take beside its first argument."""
    taken = list(inspect.signature(forward).parameters.values())[1:]
    simple = (bool, int, float, str, type(None))
    return {
        one.name: one.default
        for one in taken
        if one.default is not inspect.Parameter.empty and isinstance(one.default, simple)
    }


def argument(value: Any, n: int, device: torch.device) -> Any:
    """A value as a module takes it for `n` images: whole numbers and tensors, one for each."""
    if isinstance(value, int) and not isinstance(value, bool):
        return torch.full((n,), value, dtype=torch.long, device=device)
    if isinstance(value, Tensor):
        return value.to(device).expand(n, *value.shape)
    return value


def parsed(name: str, text: Any, like: Any) -> Any:
    """The value that a text stands for, of the type of `like`; what is no text is the value.

    Raises:
        DissectError: a text that is no such value.
    """
    if not isinstance(text, str):
        return text
    if isinstance(like, Tensor):
        raise DissectError(f"{name} is a tensor {tuple(like.shape)}: set it in the factory")
    kinds: dict[type, tuple[Callable[[str], Any], ...]] = {
        bool: (_truth,),
        int: (int,),
        float: (float,),
        str: (str,),
    }
    for kind in kinds.get(type(like), (int, float, _truth, str)):
        try:
            return kind(text)
        except ValueError:
            continue
    expected = {bool: "true or false", int: "a whole number", float: "a number"}[type(like)]
    raise DissectError(f"{name}={text!r}: it must be {expected}")


def short_text(value: Any) -> str:
    """A value in a few characters; of a tensor, a digest."""
    if isinstance(value, Tensor):
        content = value.detach().cpu().float().contiguous().numpy().tobytes()
        return f"tensor:{hashlib.sha256(content).hexdigest()[:8]}"
    return str(value)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
