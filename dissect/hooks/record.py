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

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from itertools import chain
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks.context import Block, Hook
from dissect.hooks.modules import (
    layer_names,
    named_modules,
    not_one_tensor,
    owns_memory,
    refuse_change,
    resolve_layer,
    studied_modules,
    unwrapped,
)
from dissect.hooks.recording import Recording

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
    recorded: dict[str, list[Tensor]] = {}
    names: dict[nn.Module, str] = {}
    calls: dict[nn.Module, list[Tensor]] = {}
    for name in layers:
        layer = resolve_layer(model, name)
        names[layer] = name
        recorded[name] = calls.setdefault(layer, [])
    everything, shared = studied_modules(model, allow_training=allow_training)
    destination = _device(to) if isinstance(to, str) else to
    runs = None
    if stop and shared:
        registered = list(named_modules(model).values())
        runs = {layer: registered.count(layer) for layer in names}

    def capture(
        layer: nn.Module, args: Any, kwargs: Any, output: Any, nothing_follows: bool
    ) -> Tensor | None:
        if not isinstance(output, Tensor):
            raise DissectError(not_one_tensor(names[layer], layer, output))
        kept = output.detach() if detach and output.requires_grad else output
        moved = kept if destination is None else kept.to(destination)
        if moved is not kept:
            calls[layer].append(moved)
            return None
        # Detached, a copy is needed because what follows may write to the output in place. In
        # the graph, what is handed on is the copy, so that gradients reach what is recorded.
        if not ((nothing_follows or not detach) and owns_memory(layer, args, kwargs, output)):
            kept = kept.clone()
        calls[layer].append(kept)
        return None if detach or nothing_follows else kept.clone()

    return Block(everything, names, capture, Recording(recorded), stop=stop, runs=runs)


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

    def apply(layer: nn.Module, args: Any, kwargs: Any, output: Any, _: bool) -> Tensor:
        name = names[layer]
        waiting.pop(name, None)
        if not isinstance(output, Tensor):
            raise DissectError(not_one_tensor(name, layer, output))
        given = output if owns_memory(layer, args, kwargs, output) else output.clone()
        new = edits[name](given)
        refuse_change(name, output, new)
        return new.clone() if copy and new is not given else new

    return Block(everything, names, apply, None, to_run=waiting)


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
    with Block(studied_modules(model, allow_training=True)[0], (), lambda *_: None, None):
        twin = deepcopy(resolve_layer(model, ""))
    for module in list(twin.modules()):
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, Hook):
                del module._forward_hooks[key]
                module._forward_hooks_with_kwargs.pop(key, None)
        module._modules.update(
            (name, unwrapped(child)) for name, child in module._modules.items() if child is not None
        )
        # An open block may have given a layer the `forward` of its class for its own.
        if getattr(module.__dict__.get("forward"), "__func__", None) is type(module).forward:
            del module.__dict__["forward"]
    return cast(_Model, twin)


def _device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise DissectError(f"there is no device {name!r}: use 'cpu', 'cuda', ...") from error
