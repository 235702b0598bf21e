"""The block in which layers have hooks: who is affected, how a pass ends early, what is left.

Hooks are registered with `register_forward_hook`, so that they run in the order of their blocks
and between the hooks of others. A block acts in the context (`contextvars`) in which it was
entered: in its thread, and in the tasks and threads that run in a copy of that context, as those
of `asyncio.to_thread` do. Other threads that use the model at the same time are not affected, and
blocks may end in any order.
"""

import sys
import threading
import warnings
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks.changes import acquire, in_block, release, run_eagerly
from dissect.hooks.modules import BlockHook, is_compiled, is_unshared, not_run
from dissect.hooks.outputs import with_tensor
from dissect.hooks.passes import LOCK, Entry, HookFn, is_backward, open_blocks, passes
from dissect.hooks.training_mode import Examined

__all__ = ["ForwardHook", "HookContext", "HookFn"]

_Result = TypeVar("_Result")


class ForwardHook(BlockHook):
    """A forward hook of one layer. It does nothing in a copy of the layer or after its block."""

    __slots__ = ("_entry", "_layer")

    def __init__(self, layer: nn.Module, entry: Entry) -> None:
        self._layer = layer
        self._entry = entry

    def __call__(self, layer: nn.Module, args: Any, output: Any) -> Any:
        """Act on the output, and end the pass where every open block has what it waits for."""
        if torch.compiler.is_compiling():
            from dissect.hooks.uncompiled import call

            return call(self._run, layer, output, False)
        references = sys.getrefcount(output)
        return self._run(layer, output, is_unshared(output, references))

    def _run(self, layer: nn.Module, output: Any, unshared: bool) -> Any:
        entry = self._entry
        fn = entry.fn
        if fn is None or layer is not self._layer:
            return None
        blocks = open_blocks.get()
        if entry not in blocks and (blocks or not _in_autograd_thread()):
            return None
        under_way = passes.get()
        is_over, run = False, None
        for one in under_way:
            if one.entry is entry:
                run = one.count(layer)
                is_over = one.waiting == 0
        # Blocks within this one see the layer, too, before the pass ends.
        inner = blocks[blocks.index(entry) + 1 :] if blocks else ()
        over = None
        if any(layer in block.layers for block in inner):
            is_over = False
        else:
            over = next((one for one in under_way if one.waiting == 0), None)
        result = None
        if (run is None or run in entry.layers[layer]) and not self._is_repeated(run):
            # Hooks that are always called get the output where the pass ends, too.
            unshared = unshared and not layer._forward_hooks_always_called
            if isinstance(output, Tensor):
                result = fn(layer, run, output, unshared, is_over)
            else:
                result = with_tensor(output, lambda part: fn(layer, run, part, False, is_over))
        if over is not None:
            over.stop()
        return result

    def _is_repeated(self, run: int | None) -> bool:
        """Whether the layer is computed again in a backward pass, and the block passes that over.

        Activation checkpointing does that. A recording has the layer already; an edit must be made
        again where it was made before.

        Raises:
            DissectError: which run of the layer is computed again cannot be determined.
        """
        entry = self._entry
        if entry.in_backward or not is_backward():
            return False
        most_runs = entry.most_runs[self._layer]
        if entry.once or (run is None and most_runs == 0):
            return True
        if run is None and most_runs > 1:
            raise DissectError(
                f"a {type(self._layer).__name__} that runs {most_runs} times in a pass is edited, "
                "and activation checkpointing computes it again in the backward pass, where its "
                "runs have no number: turn checkpointing off"
            )
        return False

    def __deepcopy__(self, memo: Any) -> "ForwardHook":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # A module that pickles itself has a function in the hook's place that does nothing.
        return getattr, (nullcontext(), "__exit__")


class HookContext(Generic[_Result]):
    """A context manager in which layers have hooks and passes of the model may end early.

    The function is called at the `runs` of the layers in each call of the model, and at every run
    where a part of the model is called by itself. With `stop`, a call of the model returns None and
    ends with the last of those runs. With `once`, what activation checkpointing computes again in
    the backward pass is passed over.
    """

    __slots__ = ("_entry", "_examined", "_fn", "_once", "_result", "_runs", "_stop", "_to_run")

    def __init__(
        self,
        examined: Examined,
        runs: Mapping[nn.Module, frozenset[int]],
        fn: HookFn,
        result: _Result,
        *,
        stop: bool = False,
        once: bool = False,
        to_run: Iterable[str] = (),
    ) -> None:
        self._examined = examined
        self._runs = runs
        self._fn = fn
        self._result = result
        self._stop = stop
        self._once = once
        # Names of edited layers that have not run yet.
        self._to_run = to_run
        self._entry: Entry | None = None

    def __enter__(self) -> _Result:
        if self._entry is not None:
            raise DissectError("this block is open already: make another to open within it")
        modules = self._examined.modules
        entry = Entry(modules[0], self._runs, self._fn, self._stop, self._once)
        entry.is_watched = self._examined.in_training
        try:
            with LOCK:
                if is_compiled(*modules):
                    acquire(entry, "eager", run_eagerly)
                for layer in self._runs:
                    entry.handles.append(layer.register_forward_hook(ForwardHook(layer, entry)))
                for module in dict.fromkeys((*self._runs, modules[0])):
                    acquire(entry, id(module), in_block, module)
        except BaseException:
            release(entry)
            raise
        open_blocks.set((*(block for block in open_blocks.get() if block.fn is not None), entry))
        self._entry = entry
        return self._result

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        entry, self._entry = self._entry, None
        if entry is None:
            return
        release(entry)
        open_blocks.set(tuple(block for block in open_blocks.get() if block.fn is not None))
        if kind is None:
            for name in self._to_run:
                warnings.warn(f"nothing was edited: {not_run(name)}", stacklevel=2)


def _in_autograd_thread() -> bool:
    """Whether Python did not start this thread.

    On a GPU, activations that were checkpointed are computed again in a thread of autograd's.
    """
    return threading.current_thread().name.startswith("Dummy-")
