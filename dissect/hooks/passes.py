"""Calls of a model that are under way in open blocks, and how a block ends them early."""

import threading
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.module_tracker import ModuleTracker

from dissect.hooks.training_mode import SteadyPass

__all__ = ["LOCK", "Entry", "HookFn", "Pass", "counted", "is_backward", "open_blocks", "passes"]

# What a hook does with a layer, the number of its run in the pass (None outside of any), its
# output, whether nothing else holds the output's memory, and whether the pass ends there. It
# returns an output to pass on instead, or None.
HookFn = Callable[[nn.Module, int | None, Any, bool, bool], Tensor | None]

# `register_forward_hook` counts its handles in a way that two threads may not take at once.
LOCK = threading.RLock()

# Its property `is_bw` is where torch says whether a backward pass is under way.
_TRACKER = ModuleTracker()

# A model that catches the end of its pass and tries again is ended so often before no
# `except Exception` can hold it.
_PATIENCE = 100


class _StopForward(Exception):  # noqa: N818
    """Ends a forward pass in which every layer asked for has run. It is not an error.

    It is an `Exception` so that hooks registered with `always_call=True` run on its way. It does
    not leave the call of the model.
    """

    def __init__(self) -> None:
        super().__init__("the forward pass ends here: every layer asked for has run")


class _StopForwardAtOnce(BaseException):
    """The same for a model that caught it again and again."""


class Entry:
    """One entering of a block: what its hooks do until it closes."""

    __slots__ = (
        *("fn", "handles", "in_backward", "is_watched", "keys", "layers", "model", "most_runs"),
        *("once", "stops"),
    )

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[nn.Module, frozenset[int]],
        fn: HookFn,
        stops: bool,
        once: bool,
    ):
        self.model: nn.Module | None = model
        # The runs of each layer in a pass that the block is about.
        self.layers = layers
        # Whether passes of the model end with the last of them.
        self.stops = stops
        # Whether it passes over what is computed again in a backward pass.
        self.once = once
        self.fn: HookFn | None = fn
        # The most runs of each layer in a pass so far.
        self.most_runs = dict.fromkeys(layers, 0)
        self.in_backward = is_backward()
        # Whether the next pass shows what training mode does to the model.
        self.is_watched = False
        self.handles: list[Any] = []
        self.keys: list[Hashable] = []


class Pass:
    """A call of the model that is under way: how often layers ran, and how many it waits for."""

    __slots__ = ("entry", "guard", "runs", "stops", "waiting")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.runs = dict.fromkeys(entry.layers, 0)
        # Without an early stop it waits for more layers than there are.
        self.waiting = len(self.runs) + (not entry.stops)
        self.guard: Any = None
        self.stops = 0

    def count(self, layer: nn.Module) -> int:
        """The number of the layer's run that has just ended."""
        run = self.runs[layer] = self.runs[layer] + 1
        self.waiting -= run == max(self.entry.layers[layer])
        if run > self.entry.most_runs[layer]:
            self.entry.most_runs[layer] = run
        return run

    def stop(self) -> None:
        """End the pass.

        A model that catches the exception and goes on is stopped again at its next module.
        """
        if self.guard is None:
            with LOCK:
                self.guard = register_module_forward_pre_hook(_stop_again)
        self.stops += 1
        raise _StopForward if self.stops <= _PATIENCE else _StopForwardAtOnce


def is_backward() -> bool:
    """Whether a backward pass is under way in this thread."""
    return bool(_TRACKER.is_bw)


open_blocks: ContextVar[tuple[Entry, ...]] = ContextVar("open_blocks", default=())
passes: ContextVar[tuple[Pass, ...]] = ContextVar("passes", default=())


def counted(
    model: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The output of a call of the model; None where a block stops it."""
    # Loops and not generators, which cost more than all else here.
    above, begun, is_watched = passes.get(), [], False
    for entry in open_blocks.get():
        if entry.model is model and all(one.entry is not entry for one in above):
            begun.append(Pass(entry))
            is_watched = is_watched or entry.is_watched
    if not begun:
        return call(*args, **kwargs)
    token = passes.set((*above, *begun))
    try:
        if is_watched:
            with SteadyPass(model):
                output = call(*args, **kwargs)
        else:
            output = call(*args, **kwargs)
    except (Exception, _StopForwardAtOnce):
        # The model may have caught the end of its pass and raised an error of its own for it.
        if all(one.guard is None for one in begun):
            raise
        output = None
    finally:
        passes.reset(token)
        for one in begun:
            if one.guard is not None:
                with LOCK:
                    one.guard.remove()
    for one in begun:
        one.entry.is_watched = False
        if one.entry.stops:
            output = None
    return output


def _stop_again(module: nn.Module, args: Any) -> None:
    for one in passes.get():
        if one.waiting == 0:
            one.stop()
