"""Changes to modules that open blocks share, and that are undone when the last of them ends."""

import copyreg
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from dissect.hooks.modules import BlockHook
from dissect.hooks.passes import LOCK, Entry, counted

__all__ = ["acquire", "in_block", "release", "run_eagerly"]

# How many blocks need each change, and how it is undone.
_shared: dict[Hashable, tuple[int, Callable[[], None]]] = {}


def acquire(
    entry: Entry, key: Hashable, change: Callable[..., Callable[[], None]], *args: Any
) -> None:
    """Make a change that the block needs, unless another block has made it."""
    with LOCK:
        count, undo = _shared.get(key) or (0, change(*args))
        _shared[key] = (count + 1, undo)
        entry.keys.append(key)


def release(entry: Entry) -> None:
    """Remove what the block registered, and undo its changes that no other block needs."""
    with LOCK:
        for handle in entry.handles:
            handle.remove()
        for key in reversed(entry.keys):
            count, undo = _shared.pop(key)
            if count > 1:
                _shared[key] = (count - 1, undo)
            else:
                undo()
    # A context that never runs again may keep the entry.
    entry.model, entry.layers, entry.fn, entry.handles, entry.keys = None, {}, None, [], []


def run_eagerly() -> Callable[[], None]:
    """Compiled code ignores hooks that were registered after it was compiled.

    The stance is that of the process: compiled code of other threads runs uncompiled while the
    block is open, which gives the same values. A mark on the model's modules would have it compiled
    anew in every block instead, and after a few blocks torch gives up compiling it.
    """
    stance = torch.compiler.set_stance("force_eager")
    return lambda: stance.__exit__(None, None, None)


class _InBlock:
    """First among the bases of a module's class where blocks hook it or count its calls.

    Python looks up `__call__` on the class alone, and the call is what surrounds the model's own
    hooks: an exception that is caught in a `forward` of its own would hand them None. A class of
    its own also has code that others compiled around the module look at it again.
    `torch.nn.utils.parametrize` changes the class of a module in the same way.
    """

    def __init_subclass__(cls) -> None:
        """Keeps a model's class, which may register its subclasses, from hearing of this one."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = super().__call__  # type: ignore[misc]
        if torch.compiler.is_compiling():
            from dissect.hooks.uncompiled import call as uncompiled

            return uncompiled(counted, self, call, args, kwargs)
        return counted(self, call, args, kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What a copy is made of: the module's own class, and its state without hooks of blocks."""
        reduced = super().__reduce_ex__(protocol)
        _, below, own, *_ = type(self).__mro__
        if reduced[0] is not copyreg.__newobj__ or below is not _InBlock:  # type: ignore[attr-defined]
            return reduced
        state = reduced[2]
        if isinstance(state, dict) and isinstance(hooks := state.get("_forward_hooks"), dict):
            others = ((k, hook) for k, hook in hooks.items() if not isinstance(hook, BlockHook))
            state = {**state, "_forward_hooks": OrderedDict(others)}
        return (own.__new__, (own, *reduced[1][1:]), state, *reduced[3:])


def in_block(module: nn.Module) -> Callable[[], None]:
    """Change the class of the module to one with `_InBlock`."""
    own: Any = type(module)
    changed = _with_block(own)
    object.__setattr__(module, "__class__", changed)

    def undo() -> None:
        # Another may have changed the class since.
        if type(module) is changed:
            object.__setattr__(module, "__class__", own)

    return undo


@lru_cache(maxsize=64)
def _with_block(own: Any) -> Any:
    names = ("__module__", "__qualname__", "__doc__")
    return type(own)(own.__name__, (_InBlock, own), {name: getattr(own, name) for name in names})
