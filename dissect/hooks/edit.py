"""Edits of any `nn.Module`: layers give what functions return for their activations."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks.context import HookContext
from dissect.hooks.modules import (
    check_same_shape,
    no_tensor,
    resolve_layer,
    resolve_runs,
)
from dissect.hooks.training_mode import examine

__all__ = ["edit"]


_Edit = Callable[[Tensor], Tensor] | Callable[[Tensor, str], Tensor]


def edit(
    model: nn.Module,
    edits: Mapping[str, _Edit],
    *,
    copy: bool = True,
    allow_training: bool = False,
) -> AbstractContextManager[None]:
    """A context manager in which functions change the activations of layers.

    The block acts on calls in its own thread, and in tasks and threads that run in a copy of its
    context. It warns at its end where a layer did not run, since nothing was edited then. With
    activation checkpointing, layers run once more in the backward pass: keep the block open. Of a
    layer that gives several values, the first tensor is edited, as it is recorded (see `record`).

    Args:
        model: what has the layers; in the block it may be called in any way.
        edits: by the name of a layer, a function from its activation to a new one of the same
            shape, dtype and device. It is called in each pass of the model, may work in place on
            the activation and return it, and is given the layer's name, too, where it takes two
            arguments. Of a module that runs several times in a pass, `relu#2` is the second run
            (see `resolve_runs`).
        copy: False saves the copies of what a function is given and of what it returns, where no
            function works in place or returns a tensor that is used again.
        allow_training: edit a model whose batch norm or dropout is in training mode; an edit
            before a batch norm in training mode shifts the statistics of the whole batch.

    Raises:
        DissectError: no such layer, one run of a module named twice, a layer or a function that
            gives no tensor, a new shape, dtype or device, or batch norm, dropout or spectral norm
            in training mode.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU())
        >>> with edit(model, {"0": lambda activation: 2 * activation}):
        ...     model(torch.tensor([[-1.0, 2.0]]))
        tensor([[0., 4.]])
    """
    for name in edits:
        resolve_layer(model, name)
    examined = examine(model, allow_training=allow_training)
    layers = resolve_runs(model, edits, shared=examined.shared)
    names: dict[tuple[nn.Module, int], str] = {}
    for layer, runs in layers.items():
        for name, run in runs.items():
            if (layer, run) in names:
                raise DissectError(
                    f"{names[layer, run]!r} and {name!r} are one module: edit one of them"
                )
            names[layer, run] = name
    functions = {name: _with_name(function, name) for name, function in edits.items()}
    waiting = dict.fromkeys(edits)

    def apply(layer: nn.Module, run: int | None, output: Any, is_unshared: bool, _: bool) -> Tensor:
        name = next(iter(layers[layer])) if run is None else names[layer, run]
        waiting.pop(name, None)
        if not isinstance(output, Tensor):
            raise DissectError(no_tensor(name, layer, output))
        # The layer may keep its output, in a buffer or a cache, or may have been given it.
        given = output if is_unshared or not copy else output.clone()
        new = functions[name](given)
        check_same_shape(name, output, new)
        return new.clone() if copy and new is not given else new

    wanted = {layer: frozenset(runs.values()) for layer, runs in layers.items()}
    return HookContext(examined, wanted, apply, None, to_run=waiting)


def _with_name(function: _Edit, name: str) -> Callable[[Tensor], Tensor]:
    """The function of the activation alone, where it takes the layer's name, too."""
    try:
        parameters = inspect.signature(function)
        parameters.bind(None, None)
    except (TypeError, ValueError):
        # One argument, or a function of C, which has no signature.
        return function  # type: ignore[return-value]
    try:
        parameters.bind(None)
    except TypeError:
        return lambda activation: function(activation, name)  # type: ignore[call-arg]
    return function  # type: ignore[return-value]
