"""What a foreign module computes with beside its weights: plain attributes, such as a label."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["settings"]

# Modules of these say in their shapes and names what they are.
_KNOWN = ("torch.", "dissect.")
_PLAIN = (bool, int, float, str, type(None))


def settings(model: nn.Module) -> dict[str, str]:
    """The plain attributes and unsaved tensors of the model's own modules, by name, as text.

    Modules of torch and of dissect have none. Two generators of the same weights that draw another
    class, or truncate by another factor, differ in them.

    >>> settings(nn.Linear(2, 2))
    {}
    """
    found = {}
    for place, module in model.named_modules():
        if type(module).__module__.startswith(_KNOWN):
            continue
        saved = {*module._parameters, *(set(module._buffers) - module._non_persistent_buffers_set)}
        values = {**vars(module), **module._buffers}
        for name, value in values.items():
            # Blocks of hooks, and adapters, give a module a `forward` of its own.
            if name.startswith("_") or name in ("training", "forward") or name in saved:
                continue
            text = _text(value)
            if text is not None:
                found[f"{place}.{name}".lstrip(".")] = text
    return found


def _text(value: Any) -> str | None:
    if isinstance(value, Tensor):
        content = value.detach().cpu().float().contiguous().numpy().tobytes()
        return f"{tuple(value.shape)} {hashlib.sha256(content).hexdigest()}"
    if isinstance(value, (torch.dtype, *_PLAIN)):
        return repr(value)
    if isinstance(value, tuple | list):
        parts = [_text(one) for one in value]
        return None if None in parts else repr(parts)
    if isinstance(value, Mapping):
        texts = {str(key): _text(one) for key, one in value.items()}
        return None if None in texts.values() else repr(sorted(texts.items()))
    return getattr(value, "__qualname__", None)
