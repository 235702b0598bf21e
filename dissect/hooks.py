"""Activations of any `nn.Module`, recorded and edited by the name of their layer.

    with record(G, "layer8x8", stop=True) as acts:
        G(z)
    acts["layer8x8"]                                        # (N, 512, 8, 8)

    with edit(G, {"layer8x8": lambda activation: 2 * activation}):
        louder = G(z)

Hooks run in the order in which their blocks were entered. So a `record` inside an `edit` sees the
edited activation, an `edit` inside a `record` comes after what is recorded, and of two edits of
one layer the outer acts first. When a block ends, by an exception too, the model is as it was;
hooks that others registered are neither removed nor moved.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from itertools import chain
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from dissect.errors import DissectError
from dissect.layers import (
    Inputs,
    Place,
    can_be_compiled,
    compiled_places,
    layer_names,
    named_modules,
    not_one_tensor,
    owns_memory,
    refuse_change,
    resolve_layer,
    studied_modules,
    unwrapped,
)
from dissect.recording import Recording, never_ran

__all__ = [
    "Recording",
    "activations",
    "edit",
    "layer_names",
    "plain_copy",
    "record",
    "resolve_layer",
]

_Device = torch.device | str
_Model = TypeVar("_Model", bound=nn.Module)
_Result = TypeVar("_Result")
# What a hook does with the layer, what the layer was given, and what it gave.
_Act = Callable[[nn.Module, Inputs, Any], Tensor | None]


def record(
    model: nn.Module,
    *layers: str,
    stop: bool = False,
    detach: bool = True,
    to: _Device | torch.dtype | None = None,
    allow_training: bool = False,
) -> AbstractContextManager[Recording]:
    """A context manager that gives a `Recording` of the layers' outputs while the block runs.

    What is recorded is what the layer gave, whatever later operations write in its place. It is
    copied for that, except where nothing comes after it. Every call is kept for as long as the
    recording; for many batches see `activations`.

    Args:
        model: what is called in the block. Where that is a wrapper, give the wrapper and the
            layer's name in it ("module.layer8x8").
        layers: names of modules whose output is one tensor; at least one.
        stop: end the forward pass as soon as every layer asked for has run (a module that is
            registered k times: k times). Every `model(...)` in the block then returns None, and
            the block goes on. A part of the model that is called by itself runs to its end.
        detach: False keeps the graph, and the output of the model is computed from the very
            tensors that are recorded: `torch.autograd.grad(loss, acts["layer8x8"])` works.
        to: a device or a dtype to which recorded outputs are copied at once.
        allow_training: record a model whose batch norm or dropout is in training mode.

    Raises:
        DissectError: no layer named, no such layer, a layer that gives something other than one
            tensor, batch norm or dropout in training mode, or no such device.
    """
    if not layers:
        raise DissectError(f"name layers to record, such as {next(iter(layer_names(model)), '')!r}")
    asked = {name: resolve_layer(model, name) for name in layers}
    everything, shared = studied_modules(model, allow_training=allow_training)
    destination = _device(to) if isinstance(to, str) else to
    names = {layer: name for name, layer in asked.items()}
    calls: dict[nn.Module, list[Tensor]] = {layer: [] for layer in names}
    registered = list(named_modules(model).values() if shared else names)
    runs = {layer: registered.count(layer) for layer in names}
    early = _EarlyStop(model, runs) if stop else None

    def capture(layer: nn.Module, inputs: Inputs, output: Any) -> Tensor | None:
        if not isinstance(output, Tensor):
            raise DissectError(not_one_tensor(names[layer], layer, output))
        nothing_follows = early is not None and early.ends_with(layer)
        kept = output.detach() if detach and output.requires_grad else output
        moved = kept if destination is None else kept.to(destination)
        if moved is not kept:
            calls[layer].append(moved)
            return None
        # Detached, a copy is needed because what follows may write to the output in place. In
        # the graph, what is handed on is the copy, so that gradients reach what is recorded.
        if not ((nothing_follows or not detach) and owns_memory(layer, inputs, output)):
            kept = kept.clone()
        calls[layer].append(kept)
        return None if detach or nothing_follows else kept.clone()

    recording = Recording({name: calls[layer] for name, layer in asked.items()})
    return _Block(everything, dict.fromkeys(names, capture), recording, early=early)


def edit(
    model: nn.Module,
    edits: Mapping[str, Callable[[Tensor], Tensor]],
    *,
    copy: bool = True,
    allow_training: bool = False,
) -> AbstractContextManager[None]:
    """A context manager in which layers give what your functions make of their activations.

    Warns when the block ends and a layer to be edited has not run, since nothing was edited then.

    Args:
        model: what has the layers; in the block it may be called in any way.
        edits: by the name of a layer, a function from its activation to a new one of the same
            shape, dtype and device. It is called each time the layer runs, and may work in place
            on the activation and return it.
        copy: pass on a copy of what a function returns, for later operations may write in its
            place. False saves that copy where no function returns a tensor that is used again.
        allow_training: edit a model whose batch norm or dropout is in training mode; an edit
            before a batch norm in training mode shifts the statistics of the whole batch.

    Raises:
        DissectError: no such layer, one module named twice, a layer or a function that gives
            something other than one tensor, a new shape, dtype or device, or batch norm or
            dropout in training mode.
    """
    names: dict[nn.Module, str] = {}
    for name in edits:
        layer = resolve_layer(model, name)
        if layer in names:
            raise DissectError(f"{names[layer]!r} and {name!r} are one module: edit one of them")
        names[layer] = name
    everything, _ = studied_modules(model, allow_training=allow_training)
    waiting = dict.fromkeys(edits)

    def apply(layer: nn.Module, inputs: Inputs, output: Any) -> Tensor:
        name = names[layer]
        waiting.pop(name, None)
        if not isinstance(output, Tensor):
            raise DissectError(not_one_tensor(name, layer, output))
        given = output if owns_memory(layer, inputs, output) else output.clone()
        new = edits[name](given)
        refuse_change(name, output, new)
        return new.clone() if copy and new is not given else new

    return _Block(everything, dict.fromkeys(names, apply), None, to_run=waiting)


def activations(
    model: nn.Module,
    layer: str,
    inputs: Tensor,
    *,
    batch_size: int = 100,
    to: _Device | torch.dtype | None = None,
) -> Tensor:
    """The layer's output for every input, (N, ...): the model runs in batches up to that layer.

    Args:
        model: in evaluation mode; its first weight tells the device that inputs are moved to.
        layer: a layer's name; of a shared module, the last run in a forward pass counts.
        inputs: (N, ...), whatever the model takes; latents (N, size) for a generator.
        batch_size: inputs in a forward pass, at least 1.
        to: a device or a dtype for the result; without it, those of the layer.

    Raises:
        DissectError: what `record` raises, a batch size below 1, or a layer whose output does not
            have one row for an input.
    """
    if batch_size < 1:
        raise DissectError(f"a batch holds at least 1 input, not {batch_size}")
    device = next(chain(model.parameters(), model.buffers()), inputs).device
    result: Tensor | None = None
    filled = 0
    with torch.no_grad():
        for batch in torch.split(inputs, batch_size):
            with record(model, layer, stop=True, to=to) as acts:
                model(batch.to(device))
            rows = acts[layer]
            if rows.ndim == 0 or len(rows) != len(batch):
                raise DissectError(
                    f"layer {layer!r} gives {tuple(rows.shape)} for {len(batch)} inputs: "
                    "choose a layer that gives one row for each"
                )
            if result is None:
                # One tensor from the start: joining the batches would hold everything twice.
                result = rows.new_empty((len(inputs), *rows.shape[1:]))
            result[filled : filled + len(rows)] = rows
            filled += len(rows)
    assert result is not None
    return result


def plain_copy(model: _Model) -> _Model:
    """A deep copy, uncompiled and without the hooks of any open `record` or `edit`.

    Hooks that others registered are copied with the model.
    """
    with _Block(studied_modules(model, allow_training=True)[0], {}, None):
        twin = deepcopy(resolve_layer(model, ""))
    for module in list(twin.modules()):
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, _Hook):
                del module._forward_hooks[key]
                module._forward_hooks_with_kwargs.pop(key, None)
        module._modules.update(
            (name, unwrapped(child)) for name, child in module._modules.items() if child is not None
        )
        # An open block may have given a layer the `forward` of its class for its own.
        if getattr(module.__dict__.get("forward"), "__func__", None) is type(module).forward:
            del module.__dict__["forward"]
    return cast(_Model, twin)


class _Hook:
    """A forward hook of one layer; it does nothing in a copy of the layer or after its block."""

    def __init__(self, layer: nn.Module, act: _Act, early: "_EarlyStop | None") -> None:
        self._layer: nn.Module | None = layer
        self._act: _Act | None = act
        self._run: _Act | None = self._act_and_stop
        if can_be_compiled():
            # Compiled code that calls the layer is to call this, rather than look into it.
            self._run = torch.compiler.disable(self._act_and_stop)
        self.early = early
        # What `register_forward_hook` does, without the handle: beside the forward pass of a small
        # model, making one and giving it back tells.
        layer._forward_hooks[id(self)] = self
        layer._forward_hooks_with_kwargs[id(self)] = True

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor | None:
        if module is not self._layer or self._run is None:
            return None
        return self._run(module, (args, kwargs), output)

    def _act_and_stop(self, layer: nn.Module, inputs: Inputs, output: Any) -> Tensor | None:
        assert self._act is not None
        result = self._act(layer, inputs, output)
        hooks = layer._forward_hooks.values()
        for last in reversed(hooks):
            if last is self:
                break
            # Not before the last of them has run: blocks within a block see the layer, too.
            if isinstance(last, _Hook):
                return result
        for hook in hooks:
            if isinstance(hook, _Hook) and hook.early is not None and hook.early.is_over:
                raise _Stop(hook.early)
        return result

    def __deepcopy__(self, memo: Any) -> "_Hook":
        return self

    def remove(self) -> None:
        if self._layer is not None:
            self._layer._forward_hooks.pop(id(self), None)
            self._layer._forward_hooks_with_kwargs.pop(id(self), None)
        # A copy of the model may keep the hook for long; it is not to keep anything else.
        self._layer = self._act = self._run = self.early = None


class _Stop(BaseException):
    """Ends the forward pass of the `_EarlyStop` that it is made with.

    Not an Exception, which the code of a model might catch.
    """


class _EarlyStop:
    """In the place of a model's call: ends it once the layers have run as often as they should."""

    def __init__(self, model: nn.Module, runs: Mapping[nn.Module, int]) -> None:
        self.model = model
        # Whether every layer has run in the call that is under way.
        self.is_over = False
        self._runs = runs
        # Runs to come in the call that is under way; None between calls.
        self._left: dict[nn.Module, int] | None = None

    def install(self) -> Place:
        """The place to put this in: what `nn.Module.__call__` turns to first.

        Unlike `forward` it surrounds the model's own hooks, which would be given None otherwise,
        and is not copied with the model.
        """
        former = self.model.__dict__.get("_compiled_call_impl")
        inner = former if isinstance(former, _EarlyStop) else self.model._call_impl
        self._call: Callable[..., Any] = inner
        return self.model, "_compiled_call_impl", self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._left is not None:
            return self._call(*args, **kwargs)
        self._left = dict(self._runs)
        try:
            self._call(*args, **kwargs)
        except _Stop as stop:
            if stop.args[0] is not self:
                raise
        finally:
            self._left, self.is_over = None, False
        return None

    def ends_with(self, layer: nn.Module) -> bool:
        """Count a run of the layer; whether the pass ends with it and no other hook follows."""
        if self._left is None:
            return False
        self._left[layer] = left = self._left[layer] - 1
        if left > 0 or max(self._left.values()) > 0:
            return False
        self.is_over = True
        last = next(reversed(layer._forward_hooks.values()))
        return isinstance(last, _Hook) and last.early is self


class _Block(Generic[_Result]):
    """A block in which layers have hooks, modules run uncompiled, and calls may end early."""

    def __init__(
        self,
        modules: Iterable[nn.Module],
        acts: Mapping[nn.Module, _Act],
        result: _Result,
        *,
        early: _EarlyStop | None = None,
        to_run: Iterable[str] = (),
    ) -> None:
        self._modules = modules
        self._acts = acts
        self._result = result
        self._early = early
        # Layers that have not run yet, of those whose running was the point of the block.
        self._to_run = to_run
        self._hooks: list[_Hook] = []
        self._before: list[Place] = []

    def __enter__(self) -> _Result:
        if self._hooks:
            raise DissectError("this block is open already: make another to open within it")
        places = compiled_places(self._modules, self._acts) if can_be_compiled() else []
        if self._early is not None:
            places.append(self._early.install())
        self._before = [
            (module, name, module.__dict__.get(name, self)) for module, name, _ in places
        ]
        try:
            for module, name, value in places:
                module.__dict__[name] = value
            for layer, act in self._acts.items():
                self._hooks.append(_Hook(layer, act, self._early))
        except BaseException:
            self._undo()
            raise
        return self._result

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._undo()
        if kind is None:
            for name in self._to_run:
                warnings.warn(f"nothing was edited: {never_ran(name)}", stacklevel=2)

    def _undo(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for module, name, value in reversed(self._before):
            # The block itself stands for an attribute that was not there.
            if value is self:
                module.__dict__.pop(name, None)
            else:
                module.__dict__[name] = value
        self._hooks, self._before = [], []


def _device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise DissectError(f"there is no device {name!r}: use 'cpu', 'cuda', ...") from error
