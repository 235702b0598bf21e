"""Activations of any `nn.Module`, recorded by the name of their layer."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from dissect._utils.batches import chosen_batch_size, fitting
from dissect._utils.display import shortened
from dissect._utils.errors import DissectError
from dissect.hooks.context import HookContext
from dissect.hooks.modules import (
    layer_names,
    no_tensor,
    not_run,
    resolve_layer,
    resolve_runs,
)
from dissect.hooks.training_mode import examine

__all__ = ["Recording", "activations", "record"]

_Device = torch.device | str


# So many inputs are one batch, without a pass that measures how large they are.
_FEW = 4


class _NotRecordedError(DissectError, KeyError):
    """A KeyError too, so that `in` and `get` of a recording work as those of any mapping."""

    __str__ = Exception.__str__


class Recording(Mapping[str, Tensor]):
    """What the recorded layers gave, by name: `acts["layer8x8"]` is the output in the last call.

    As a mapping it holds the layers that have run so far.
    """

    def __init__(self, calls: Mapping[str, list[Tensor]]) -> None:
        self._calls = calls

    def calls(self, layer: str) -> tuple[Tensor, ...]:
        """The layer's output in every call of the model so far, in their order.

        Raises:
            DissectError: the layer was not asked for, or has not run.
        """
        if layer not in self._calls:
            raise _NotRecordedError(
                f"{layer!r} was not asked for; recorded here: {', '.join(self._calls)}"
            )
        if not self._calls[layer]:
            raise _NotRecordedError(not_run(layer))
        return tuple(self._calls[layer])

    def __getitem__(self, layer: str) -> Tensor:
        try:
            return self._calls[layer][-1]
        except (KeyError, IndexError):
            # Whichever it is, `calls` has the words for it.
            return self.calls(layer)[-1]

    def __iter__(self) -> Iterator[str]:
        return (layer for layer, outputs in self._calls.items() if outputs)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        shapes = (f"{layer}: {tuple(last.shape)}" for layer, last in self.items())
        return shortened(f"Recording({', '.join(shapes)})")


def record(
    model: nn.Module,
    *layers: str | Callable[[str], bool],
    stop: bool = False,
    detach: bool = True,
    to: _Device | torch.dtype | None = None,
    allow_training: bool = False,
) -> AbstractContextManager[Recording]:
    """A context manager that gives a `Recording` of the layers' outputs while the block runs.

    Each output is recorded as the layer gave it. It is copied where a later operation could write
    into its memory. Every call is kept for as long as the recording; for many batches see
    `activations`. Where a layer gives a tuple, a list, a mapping or a dataclass, its activation is
    the first tensor in it; `edit` changes that one.

    Calls are recorded that run in the block's own thread, or in tasks and threads that run in a
    copy of its context (`asyncio.to_thread`). What activation checkpointing computes again in the
    backward pass is not recorded again.

    Args:
        model: what is called in the block. Where that is a wrapper, give the wrapper and the
            layer's name in it ("module.layer8x8").
        layers: names of modules, at least one; or functions that say for each name of
            `layer_names(model)` whether to record that layer. Of a module that
            runs several times in a pass, `relu#2` is the second run (see `resolve_runs`).
        stop: end the forward pass as soon as every layer asked for has run. Every `model(...)` in
            the block then returns None, and the block goes on. A part of the model that is called
            by itself runs to its end.
        detach: False keeps the graph, and the output of the model is computed from the very
            tensors that are recorded: `torch.autograd.grad(loss, acts["layer8x8"])` works.
        to: a device or a dtype to which recorded outputs are copied at once.
        allow_training: record a model whose batch norm or dropout is in training mode.

    Raises:
        DissectError: no layer named, no such layer, a layer that gives no tensor, batch norm,
            dropout or spectral norm in training mode, or no such device.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU(), torch.nn.Tanh())
        >>> with record(model, "1", stop=True) as acts:
        ...     model(torch.tensor([[-1.0, 2.0]]))
        >>> acts["1"]
        tensor([[0., 2.]])
    """
    recorded: dict[str, list[Tensor]] = {}
    for name in _chosen(model, layers):
        resolve_layer(model, name)
        recorded[name] = []
    examined = examine(model, allow_training=allow_training)
    runs = resolve_runs(model, recorded, shared=examined.shared)
    calls: dict[tuple[nn.Module, int | None], list[list[Tensor]]] = {}
    for layer, names in runs.items():
        for name, number in names.items():
            # Outside of a pass of the model, no run has a number.
            for key in ((layer, number), (layer, None)):
                calls.setdefault(key, []).append(recorded[name])
    destination = _device(to) if isinstance(to, str) else to

    def capture(
        layer: nn.Module, run: int | None, output: Any, is_unshared: bool, nothing_follows: bool
    ) -> Tensor | None:
        if not isinstance(output, Tensor):
            raise DissectError(no_tensor(next(iter(runs[layer])), layer, output))
        kept = output.detach() if detach and output.requires_grad else output
        moved = kept if destination is None else kept.to(destination)
        if moved is not kept:
            for outputs in calls[layer, run]:
                outputs.append(moved)
            return None
        # Detached, a copy is needed because what follows may write to the output in place. In
        # the graph, what is passed on is the copy, so that gradients reach what is recorded.
        if not (is_unshared and (nothing_follows or not detach)):
            kept = kept.clone()
        for outputs in calls[layer, run]:
            outputs.append(kept)
        return None if detach or nothing_follows else kept.clone()

    wanted = {layer: frozenset(names.values()) for layer, names in runs.items()}
    return HookContext(examined, wanted, capture, Recording(recorded), stop=stop, once=True)


def activations(
    model: nn.Module,
    layer: str,
    inputs: Tensor,
    *,
    batch_size: int | None = None,
    to: _Device | torch.dtype | None = None,
) -> Tensor:
    """The layer's output for every input, (N, ...): the model runs in batches up to that layer.

    Args:
        model: in evaluation mode; its first weight tells the device that inputs are moved to.
        layer: a layer's name; of a module that runs several times in a pass, the first run, or
            the one that the name says, as in `relu#2`.
        inputs: (N, ...), whatever the model takes; latents (N, size) for a generator.
        batch_size: inputs in a forward pass, at least 1. None fits a batch into about 1 GiB, by
            the layer's output for the first input, at most 100; a few inputs are one batch.
        to: a device or a dtype for the result; without it, those of the layer.

    Raises:
        DissectError: what `record` raises, a batch size below 1, or a layer whose output does not
            have one row for an input.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    >>> tuple(activations(model, "1", torch.zeros(5, 4), batch_size=2).shape)
    (5, 3)
    """
    if batch_size is not None and batch_size < 1:
        raise DissectError(f"a batch holds at least 1 input, not {batch_size}")
    device = next(chain(model.parameters(), model.buffers()), inputs).device
    with torch.no_grad():
        size = batch_size or chosen_batch_size(model)
        if size is None and len(inputs) <= _FEW:
            size = _FEW
        if size is None:
            with record(model, layer, stop=True) as first:
                model(inputs[:1].to(device))
            # What a layer reads and writes beside its output is about three times as large.
            size = fitting(4 * first[layer].numel())
        result: Tensor | None = None
        filled = 0
        for batch in torch.split(inputs, size):
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
    return cast(Tensor, result)  # even of no inputs there is a batch, of none


def _device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise DissectError(f"there is no device {name!r}: use 'cpu', 'cuda', ...") from error


def _chosen(model: nn.Module, layers: tuple[str | Callable[[str], bool], ...]) -> Iterator[str]:
    """The layers' names, with a function replaced by the names that it accepts."""
    if not layers:
        raise DissectError(f"name layers to record, such as {next(iter(layer_names(model)), '')!r}")
    for layer in layers:
        if callable(layer) and not isinstance(layer, str | nn.Module):
            accepted = [name for name in layer_names(model) if layer(name)]
            if not accepted:
                known = ", ".join(layer_names(model)[:8])
                raise DissectError(f"the function accepts no layer's name, of {known}, ...")
            yield from accepted
        else:
            yield layer  # type: ignore[misc]
