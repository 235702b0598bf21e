"""The block in which a model's layers have hooks: how it opens, ends a pass early, and closes.

What the hooks do is up to `hooks`. A stranger's hooks, nested blocks, shared and compiled modules,
copies made meanwhile and exceptions are taken care of here.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks.modules import Place, can_be_compiled, compiled_places
from dissect.hooks.recording import never_ran

__all__ = ["Act", "Block", "Hook"]

_Result = TypeVar("_Result")
# What a hook does with the layer, what the layer was given by position and by name, what it gave,
# and whether the pass ends there, so that nothing comes to see or to change what it gave.
Act = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any, bool], Tensor | None]


class Hook:
    """A forward hook of one layer; it does nothing in a copy of the layer or after its block."""

    __slots__ = ("_act", "_block", "_layer")

    def __init__(self, layer: nn.Module, act: Act, block: "Block[Any]") -> None:
        self._layer: nn.Module | None = layer
        self._act: Act | None = act
        self._block: Block[Any] | None = block
        # What `register_forward_hook` does, without the handle: beside the forward pass of a small
        # model, making one and giving it back tells.
        layer._forward_hooks[id(self)] = self
        layer._forward_hooks_with_kwargs[id(self)] = True

    def __call__(self, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor | None:
        """Act, and end the pass where this was the last that a block has waited for."""
        block = self._block
        if layer is not self._layer or block is None or self._act is None:
            return None
        left = block.left
        if left is not None:
            left[layer] -= 1
            if left[layer] == 0:
                block.waiting -= 1
                block.is_over = block.waiting == 0
        hooks = layer._forward_hooks.values()
        if len(hooks) == 1:
            # What follows comes to the same; beside the pass of a small model, less of it tells.
            result = self._act(layer, args, kwargs, output, block.is_over)
            if block.is_over:
                raise _Stop(block)
            return result
        is_last = next(reversed(hooks)) is self
        result = self._act(layer, args, kwargs, output, block.is_over and is_last)
        if not is_last:
            for later in reversed(hooks):
                if later is self:
                    break
                # Not before the last of them has run: blocks within a block see the layer, too.
                if isinstance(later, Hook):
                    return result
        for hook in hooks:
            if isinstance(hook, Hook) and hook._block is not None and hook._block.is_over:
                raise _Stop(hook._block)
        return result

    def __deepcopy__(self, memo: Any) -> "Hook":
        return self

    def remove(self) -> None:
        """Take the hook off, once or several times."""
        if self._layer is not None:
            self._layer._forward_hooks.pop(id(self), None)
            self._layer._forward_hooks_with_kwargs.pop(id(self), None)
        # A copy of the model may keep the hook for long; it is not to keep anything else.
        self._layer = self._act = self._block = None


class UncompiledHook(Hook):
    """A hook that compiled code calls, rather than looks into, when it comes to the layer."""

    __slots__ = ("_run",)

    def __init__(self, layer: nn.Module, act: Act, block: "Block[Any]") -> None:
        super().__init__(layer, act, block)
        self._run: Callable[..., Tensor | None] | None = torch.compiler.disable(super().__call__)

    def __call__(self, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor | None:
        """As the hook's, but never traced."""
        if layer is not self._layer or self._run is None:
            return None
        return self._run(layer, args, kwargs, output)

    def remove(self) -> None:
        """Take the hook off, once or several times."""
        super().remove()
        self._run = None


class _Stop(BaseException):
    """Ends the forward pass that the block which it is made with has waited for.

    Not an Exception, which the code of a model might catch.
    """


class Block(Generic[_Result]):
    """A block in which layers have hooks, modules run uncompiled, and calls may end early.

    With `stop`, a call of the model, the first of the modules, gives None and ends once the layers
    have run, each as often as `runs` says, or once.
    """

    __slots__ = (
        "_act",
        "_before",
        "_call",
        "_hooks",
        "_layers",
        "_modules",
        "_result",
        "_runs",
        "_stop",
        "_to_run",
        "is_over",
        "left",
        "waiting",
    )

    def __init__(
        self,
        modules: list[nn.Module],
        layers: Iterable[nn.Module],
        act: Act,
        result: _Result,
        *,
        stop: bool = False,
        runs: Mapping[nn.Module, int] | None = None,
        to_run: Iterable[str] = (),
    ) -> None:
        self._modules = modules
        self._layers = layers
        self._act = act
        self._result = result
        self._stop = stop
        self._runs = runs
        # Layers that have not run yet, of those whose running was the point of the block.
        self._to_run = to_run
        self._hooks: list[Hook] = []
        self._before: list[Place] = []
        # Runs to come in the call that is under way; None between calls.
        self.left: dict[nn.Module, int] | None = None
        # Layers with runs to come in that call, and whether none are left.
        self.waiting = 0
        self.is_over = False

    def __enter__(self) -> _Result:
        if self._hooks:
            raise DissectError("this block is open already: make another to open within it")
        places: list[Place] = []
        hook = Hook
        if can_be_compiled():
            places = compiled_places(self._modules, self._layers)
            hook = UncompiledHook
        if self._stop:
            # The place that `nn.Module.__call__` turns to first. Unlike `forward` it surrounds the
            # model's own hooks, which would be given None otherwise, and is not copied with it.
            model = self._modules[0]
            self._call: Callable[..., Any] = model._call_impl
            former = model.__dict__.get("_compiled_call_impl")
            if former is not None and isinstance(getattr(former, "__self__", None), Block):
                self._call = former
            places.append((model, "_compiled_call_impl", self._until_over))
        try:
            for module, name, value in places:
                self._before.append((module, name, module.__dict__.get(name, self)))
                module.__dict__[name] = value
            for layer in self._layers:
                self._hooks.append(hook(layer, self._act, self))
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self._result

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for hook in self._hooks:
            hook.remove()
        for module, name, value in reversed(self._before):
            # The block itself stands for an attribute that was not there.
            if value is self:
                module.__dict__.pop(name, None)
            else:
                module.__dict__[name] = value
        self._hooks, self._before = [], []
        if kind is None:
            for name in self._to_run:
                warnings.warn(f"nothing was edited: {never_ran(name)}", stacklevel=2)

    def _until_over(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output in calls within a call of itself; otherwise None, after the stop."""
        if self.left is not None:
            return self._call(*args, **kwargs)
        self.left = dict.fromkeys(self._layers, 1) if self._runs is None else dict(self._runs)
        self.waiting = len(self.left)
        try:
            self._call(*args, **kwargs)
        except _Stop as stop:
            if stop.args[0] is not self:
                raise
        finally:
            self.left, self.is_over = None, False
        return None
