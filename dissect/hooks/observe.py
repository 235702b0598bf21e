"""What the layers of a network give in one pass, without keeping it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from dissect._utils.display import ShortRepr
from dissect.hooks.modules import layer_names, resolve_layer

__all__ = ["LayerOutput", "observe"]


@dataclass(frozen=True, repr=False)
class LayerOutput(ShortRepr):
    """What one layer gave.

    Attributes:
        name: of the layer.
        module: its class.
        shape: of its output in its first run; None where that is not one tensor.
        dtype: of the output; of another output its type.
        runs: how often it ran in the pass; 0 for one that did not.
        done: the fraction of the pass's time after which its last run was over.
    """

    name: str
    module: str
    shape: tuple[int, ...] | None
    dtype: str
    runs: int
    done: float


def observe(model: nn.Module, call: Callable[[], object]) -> list[LayerOutput]:
    """What every layer of the model gives while `call` runs, in order of registration.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> [(one.name, one.shape, one.runs) for one in observe(model, lambda: model(torch.ones(1, 2)))]
    [('0', (1, 3), 1), ('1', (1, 3), 1)]
    """
    names = layer_names(model)
    modules = {name: resolve_layer(model, name) for name in names}
    first: dict[nn.Module, tuple[tuple[int, ...] | None, str]] = {}
    ended: dict[nn.Module, list[float]] = {module: [] for module in modules.values()}

    def note(layer: nn.Module, args: Any, output: Any) -> None:
        ended[layer].append(time.perf_counter())
        if layer not in first:
            is_tensor = isinstance(output, Tensor)
            kind = str(output.dtype).removeprefix("torch.") if is_tensor else type(output).__name__
            first[layer] = (tuple(output.shape) if is_tensor else None, kind)

    handles = [module.register_forward_hook(partial(note)) for module in ended]
    begin = time.perf_counter()
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    whole = time.perf_counter() - begin
    found = []
    for name, module in modules.items():
        shape, kind = first.get(module, (None, ""))
        done = (ended[module][-1] - begin) / whole if ended[module] else 0.0
        found.append(
            LayerOutput(name, type(module).__name__, shape, kind, len(ended[module]), done)
        )
    return found
