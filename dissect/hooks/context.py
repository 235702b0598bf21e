"""The block in which layers have hooks: who is affected, how a pass ends early, what is left.

Hooks are registered with `register_forward_hook`, so that they run in the order of their blocks
and between the hooks of others. A block acts in the context (`contextvars`) in which it was
entered: in its thread, and in the tasks and threads that run in a copy of that context, as those
of `asyncio.to_thread` do. Other threads that use the model at the same time are not affected, and
blocks may end in any order.
"""

import copyreg
import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from functools import lru_cache
from types import MethodType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from dissect._utils.errors import DissectError
from dissect.hooks.modules import BlockHook, is_compiled, is_unshared, not_run

__all__ = ["ForwardHook", "HookContext", "HookFn", "StopForward"]

_Result = TypeVar("_Result")
# What a hook does with a layer, the number of its run in the pass (None outside of any), its
# output, whether nothing else holds the output's memory, and whether the pass ends there. It
# returns an output to pass on instead, or None.
HookFn = Callable[[nn.Module, int | None, Any, bool, bool], Tensor | None]


class StopForward(Exception):  # noqa: N818
    """Ends a forward pass in which every layer asked for has run. It is not an error.

    It is an `Exception` so that hooks registered with `always_call=True` run on its way. It does
    not leave the call of the model.
    """

    def __init__(self, ended: "_Pass") -> None:
        super().__init__("the forward pass ends here: every layer asked for has run")
        self.ended = ended


class _Entry:
    """One entering of a block: what its hooks do until it closes."""

    __slots__ = ("fn", "handles", "keys", "layers", "model", "stops")

    def __init__(
        self, model: nn.Module, layers: Mapping[nn.Module, frozenset[int]], fn: HookFn, stops: bool
    ):
        self.model: nn.Module | None = model
        # The runs of each layer in a pass that the block is about.
        self.layers = layers
        # Whether passes of the model end with the last of them.
        self.stops = stops
        self.fn: HookFn | None = fn
        self.handles: list[Any] = []
        self.keys: list[Hashable] = []

    def close(self) -> None:
        with _LOCK:
            for handle in self.handles:
                handle.remove()
            for key in reversed(self.keys):
                _release(key)
        # A hook in a copy of the model, or a context that never runs again, may keep the entry.
        self.model, self.layers, self.fn, self.handles, self.keys = None, {}, None, [], []


class _Pass:
    """A call of the model that is under way: how often layers ran, and how many it waits for."""

    __slots__ = ("entry", "guard", "runs", "waiting")

    def __init__(self, entry: _Entry) -> None:
        self.entry = entry
        self.runs = dict.fromkeys(entry.layers, 0)
        # Without an early stop it waits for more layers than there are.
        self.waiting = len(self.runs) + (not entry.stops)
        self.guard: Any = None

    def count(self, layer: nn.Module) -> int:
        """The number of the layer's run that has just ended."""
        self.runs[layer] += 1
        self.waiting -= self.runs[layer] == max(self.entry.layers[layer])
        return self.runs[layer]

    def stop(self) -> None:
        # A model that catches the exception and goes on is stopped again at its next module.
        with _LOCK:
            self.guard = register_module_forward_pre_hook(_stop_again)
        raise StopForward(self)


_open: ContextVar[tuple[_Entry, ...]] = ContextVar("open_blocks", default=())
_passes: ContextVar[tuple[_Pass, ...]] = ContextVar("passes", default=())
# Changes to modules that open blocks share: how many blocks need each, and how it is undone.
_shared: dict[Hashable, tuple[int, Callable[[], None]]] = {}
# `register_forward_hook` counts its handles in a way that two threads may not take at once.
_LOCK = threading.RLock()


class ForwardHook(BlockHook):
    """A forward hook of one layer. It does nothing in a copy of the layer or after its block."""

    __slots__ = ("_entry", "_layer")

    def __init__(self, layer: nn.Module, entry: _Entry) -> None:
        self._layer = layer
        self._entry = entry

    def __call__(self, layer: nn.Module, args: Any, output: Any) -> Tensor | None:
        """Act on the output, and end the pass where every open block has what it waits for."""
        if torch.compiler.is_compiling():
            from dissect.hooks.uncompiled import call

            return call(self._run, layer, output, False)  # type: ignore[no-any-return]
        references = sys.getrefcount(output)
        return self._run(layer, output, is_unshared(output, references))

    def _run(self, layer: nn.Module, output: Any, unshared: bool) -> Tensor | None:
        entry = self._entry
        fn = entry.fn
        if fn is None or layer is not self._layer:
            return None
        blocks = _open.get()
        if entry not in blocks and (blocks or not _in_autograd_thread()):
            return None
        passes = _passes.get()
        is_over, run = False, None
        for one in passes:
            if one.entry is entry:
                run = one.count(layer)
                is_over = one.waiting == 0
        is_meant = run is None or run in entry.layers[layer]
        # Blocks within this one see the layer, too, before the pass ends.
        inner = blocks[blocks.index(entry) + 1 :] if blocks else ()
        if any(layer in block.layers for block in inner):
            return fn(layer, run, output, unshared, False) if is_meant else None
        over = next((one for one in passes if one.waiting == 0), None)
        result = fn(layer, run, output, unshared, is_over) if is_meant else None
        if over is not None:
            over.stop()
        return result

    def __deepcopy__(self, memo: Any) -> "ForwardHook":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # A saved model has a function in the hook's place that takes anything and does nothing.
        return getattr, (nullcontext(), "__exit__")


class HookContext(Generic[_Result]):
    """A context manager in which layers have hooks and passes of the model may end early.

    The function is called at the `runs` of the layers in each call of the model, and at every run
    where a part of the model is called by itself. With `stop`, a call of the model returns None and
    ends with the last of those runs.
    """

    __slots__ = ("_entry", "_fn", "_model", "_modules", "_result", "_runs", "_stop", "_to_run")

    def __init__(
        self,
        modules: list[nn.Module],
        runs: Mapping[nn.Module, frozenset[int]],
        fn: HookFn,
        result: _Result,
        *,
        stop: bool = False,
        to_run: Iterable[str] = (),
    ) -> None:
        self._modules = modules
        self._runs = runs
        self._fn = fn
        self._result = result
        self._stop = stop
        # Names of edited layers that have not run yet.
        self._to_run = to_run
        self._entry: _Entry | None = None

    def __enter__(self) -> _Result:
        if self._entry is not None:
            raise DissectError("this block is open already: make another to open within it")
        model = self._modules[0]
        entry = _Entry(model, self._runs, self._fn, self._stop)
        try:
            with _LOCK:
                if any(map(is_compiled, self._modules)):
                    _acquire(entry, "eager", _run_eagerly)
                for layer in self._runs:
                    entry.handles.append(layer.register_forward_hook(ForwardHook(layer, entry)))
                    _acquire(entry, (id(layer), "forward"), _retraced, layer)
                _acquire(entry, (id(model), "passes"), _counting, model)
        except BaseException:
            entry.close()
            raise
        _open.set((*(block for block in _open.get() if block.fn is not None), entry))
        self._entry = entry
        return self._result

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        entry, self._entry = self._entry, None
        if entry is None:
            return
        entry.close()
        _open.set(tuple(block for block in _open.get() if block.fn is not None))
        if kind is None:
            for name in self._to_run:
                warnings.warn(f"nothing was edited: {not_run(name)}", stacklevel=2)


def _acquire(entry: _Entry, key: Hashable, change: Callable[..., Any], *args: Any) -> None:
    count, undo = _shared.get(key) or (0, change(*args))
    _shared[key] = (count + 1, undo)
    entry.keys.append(key)


def _release(key: Hashable) -> None:
    count, undo = _shared.pop(key)
    if count > 1:
        _shared[key] = (count - 1, undo)
    else:
        undo()


def _run_eagerly() -> Callable[[], None]:
    """Compiled code ignores hooks that were registered after it was compiled.

    The stance is that of the process: compiled code of other threads runs uncompiled while the
    block is open, which gives the same values. A mark on the model's modules would have it compiled
    anew in every block instead, and after a few blocks torch gives up compiling it.
    """
    stance = torch.compiler.set_stance("force_eager")
    return lambda: stance.__exit__(None, None, None)


def _retraced(layer: nn.Module) -> Callable[[], None]:
    """A `forward` of its own makes code that others compiled around the layer look at it again."""
    forward = getattr(type(layer), "forward", None)
    if forward is None or "forward" in layer.__dict__:
        return lambda: None
    own = layer.__dict__["forward"] = MethodType(forward, layer)

    def undo() -> None:
        if layer.__dict__.get("forward") is own:
            del layer.__dict__["forward"]

    return undo


class _Counting:
    """First among the bases of a model's class while blocks count its passes, or stop them.

    Python looks up `__call__` on the class alone, and the call is what surrounds the model's own
    hooks: an exception that is caught in a `forward` of its own would hand them None.
    `torch.nn.utils.parametrize` changes the class of a module in the same way.
    """

    def __init_subclass__(cls) -> None:
        """Keeps a model's class, which may register its subclasses, from hearing of this one."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = super().__call__  # type: ignore[misc]
        if torch.compiler.is_compiling():
            from dissect.hooks.uncompiled import call as uncompiled

            return uncompiled(_counted, self, call, args, kwargs)
        return _counted(self, call, args, kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What a copy is made of: the model's own class."""
        reduced = super().__reduce_ex__(protocol)
        if reduced[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return reduced
        classes = type(self).__mro__
        own = classes[classes.index(_Counting) + 1]
        return (own.__new__, (own, *reduced[1][1:]), *reduced[2:])


def _counting(model: nn.Module) -> Callable[[], None]:
    own: Any = type(model)
    changed = _with_count(own)
    object.__setattr__(model, "__class__", changed)

    def undo() -> None:
        # Another may have changed the class since.
        if type(model) is changed:
            object.__setattr__(model, "__class__", own)

    return undo


@lru_cache(maxsize=64)
def _with_count(own: Any) -> Any:
    names = ("__module__", "__qualname__", "__doc__")
    return type(own)(own.__name__, (_Counting, own), {name: getattr(own, name) for name in names})


def _counted(
    model: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The output of a call of the model; None where a block stops it."""
    passes = _passes.get()
    begun = tuple(
        _Pass(entry)
        for entry in _open.get()
        if entry.model is model and all(one.entry is not entry for one in passes)
    )
    if not begun:
        return call(*args, **kwargs)
    token = _passes.set((*passes, *begun))
    try:
        output = call(*args, **kwargs)
    except StopForward as stop:
        if stop.ended not in begun:
            raise
        output = None
    finally:
        _passes.reset(token)
        for one in begun:
            if one.guard is not None:
                with _LOCK:
                    one.guard.remove()
    return None if any(one.entry.stops for one in begun) else output


def _stop_again(module: nn.Module, args: Any) -> None:
    for one in _passes.get():
        if one.waiting == 0:
            raise StopForward(one)


def _in_autograd_thread() -> bool:
    """Whether Python did not start this thread.

    On a GPU, activations that were checkpointed are computed again in a thread of autograd's.
    """
    return threading.current_thread().name.startswith("Dummy-")
