"""Units weakened for good, in the weights of what reads them."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dissect._utils.errors import DissectError
from dissect.hooks.modules import resolve_layer
from dissect.surgery.graph import CONVS, TRANSPOSED_CONVS, traced_end
from dissect.units import Units

__all__ = ["scale_units"]


def scale_units(model: nn.Module, units: Units, factors: Tensor) -> None:
    """Let whatever reads the units read them times the factors: `model` is changed in place.

    What reads them is linear in them, so that their share of its weights takes the factor, and the
    outputs are those of scaled units within rounding. Names and shapes stay as they are.

    Args:
        model: in evaluation mode.
        units: of a layer that convolutions alone read, straight from its end.
        factors: (len(units),), what each unit is multiplied by.

    Raises:
        DissectError: no such layer, units of a layer of another size, or a layer that anything but
            a plain convolution with weights of its own reads.
    """

    def refuse(reason: str) -> DissectError:
        return DissectError(
            f"a strength of {units.layer!r} cannot be written into plain weights: {reason}; leave "
            "it to a module at the layer's end ('exact')"
        )

    graph, end = traced_end(model, resolve_layer(model, units.layer), refuse)
    modules = dict(model.named_modules(remove_duplicate=False))
    called = [modules[str(node.target)] for node in graph.nodes if node.op == "call_module"]
    readers: list[nn.Module] = []
    for node in end.users:
        reader = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(reader, CONVS) or reader.groups != 1:
            raise refuse(f"{type(reader).__name__ if reader else node.op} reads the units")
        if called.count(reader) > 1 or parametrize.is_parametrized(reader):
            raise refuse(f"a {type(reader).__name__} that reads the units runs more than once")
        if reader.in_channels != units.total:
            raise DissectError(
                f"layer {units.layer!r} has {reader.in_channels} units, and the units are of a "
                f"layer of {units.total}: choose the units on this model"
            )
        readers.append(reader)
    if not readers:
        raise refuse("nothing reads the units")
    index = list(units.indices)
    with torch.no_grad():
        for reader in readers:
            weight = reader.get_parameter("weight")
            along = weight if isinstance(reader, TRANSPOSED_CONVS) else weight.transpose(0, 1)
            shape = (-1, *([1] * (weight.ndim - 1)))
            along[index] *= factors.to(weight).reshape(shape)
