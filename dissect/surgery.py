"""Units removed, for a while or for good.

    with ablated(G, units):                  # the paper's edit: everywhere
        after = G(z)
    with ablated(G, units, where=probe):     # only at the cells that the probe calls the concept
        after = G(z)
    edited = bake(G, units)                  # written into the weights, no hooks left

Section 6.3.1 of Radford et al. (2015) drops feature maps at all positions; Bau et al. (2019, GAN
Dissection) replace units by a constant. An edit acts on the output of the layer, that is after
its non-linearity: before it, the batch norm's shift would bring a zeroed unit back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from dissect.errors import DissectError
from dissect.hooks import activations, edit, plain_copy, resolve_layer
from dissect.units import Units

__all__ = ["Gate", "ablated", "bake", "mean_activation"]

_Model = TypeVar("_Model", bound=nn.Module)
_KEEP_ZERO = (nn.ReLU, nn.LeakyReLU, nn.Identity)


@runtime_checkable
class Gate(Protocol):
    """Tells at which cells an edit acts; a `Probe` is one."""

    def probability(self, activations: Tensor) -> Tensor:
        """(N, C, H, W) of the layer, before the edit, to (N, H, W) in [0, 1]."""


@contextmanager
def ablated(
    model: nn.Module,
    units: Units,
    *,
    where: "Gate | Tensor | Literal['everywhere'] | None" = None,
    threshold: float = 0.5,
    strength: float = 1.0,
    replacement: "Literal['zero'] | Tensor" = "zero",
) -> Iterator[None]:
    """A context manager in which the units of one layer are removed.

    The activation a of a unit becomes a - strength * (a - replacement) at the cells where the
    gate is open; every other value stays as it is, to the bit.

    Args:
        model: what has the layer, in evaluation mode.
        units: which units of which layer.
        where: None or `everywhere` is every position (the paper). A `Gate`, such as the probe,
            opens at the cells whose probability is above `threshold`, judged on the activation
            as it comes to this edit. A tensor (H, W) or (N, H, W) opens where it is above
            `threshold`; N is the batch.
        threshold: in [0, 1).
        strength: 0 leaves the units, 1 puts the replacement in their place, 2 turns the sign of
            what the units had beyond it.
        replacement: `zero`, or one value a unit, (len(units),), such as `mean_activation`'s.

    Raises:
        DissectError: a unit that the layer does not have, a gate of another grid, or a value out
            of its range.
    """
    resolve_layer(model, units.layer)
    if not 0 <= strength <= 2:
        raise DissectError(f"strength must be from 0 to 2, not {strength:g}")
    if not 0 <= threshold < 1:
        raise DissectError(f"threshold must be at least 0 and below 1, not {threshold:g}")
    if isinstance(where, str) and where != "everywhere":
        raise DissectError(f"where={where!r} is not known: use 'everywhere', a probe or a tensor")
    if isinstance(replacement, str) and replacement != "zero":
        raise DissectError(f"replacement={replacement!r} is not known: use 'zero' or a tensor")
    if isinstance(replacement, Tensor) and replacement.shape != (len(units),):
        raise DissectError(
            f"replacement needs one value for each of the {len(units)} units, not the shape "
            f"{tuple(replacement.shape)}"
        )

    def remove(activation: Tensor) -> Tensor:
        if activation.ndim < 2 or activation.shape[1] != units.total:
            raise DissectError(
                f"layer {units.layer!r} gives {tuple(activation.shape)}, and the units are of a "
                f"layer of {units.total}"
            )
        if not len(units) or strength == 0:
            return activation
        index = torch.tensor(units.indices, device=activation.device)
        before = activation.index_select(1, index)
        if isinstance(replacement, Tensor):
            shape = (1, -1, *([1] * (activation.ndim - 2)))
            target = replacement.to(before).reshape(shape).expand_as(before)
        else:
            target = torch.zeros_like(before)
        # Strength 1 puts the target itself: a - 1 * (a - t) is not t to the last digit.
        after = target if strength == 1 else before - strength * (before - target)
        if where is not None and not isinstance(where, str):
            gate = _gate(where, activation, threshold)
            after = torch.where(gate.unsqueeze(1), after, before)
        return activation.index_copy(1, index, after)

    with edit(model, {units.layer: remove}, copy=False):
        yield


def mean_activation(
    model: nn.Module, units: Units, latents: Tensor, *, batch_size: int = 100
) -> Tensor:
    """The mean of each of the units over latents and positions, (len(units),).

    What mean ablation puts in a unit's place, rather than zero.

    Raises:
        DissectError: as `activations`, or the layer has no such units.
    """
    total = torch.zeros(len(units), dtype=torch.float64)
    for part in latents.split(batch_size):
        acts = activations(model, units.layer, part, batch_size=batch_size)
        if acts.ndim < 2 or acts.shape[1] != units.total:
            raise DissectError(
                f"layer {units.layer!r} gives {tuple(acts.shape)}, and the units are of a layer of "
                f"{units.total}"
            )
        chosen = acts[:, list(units.indices)].double()
        total += chosen.flatten(2).mean(2).sum(0).cpu() if chosen.ndim > 2 else chosen.sum(0).cpu()
    return (total / len(latents)).float()


def bake(model: _Model, units: Units) -> _Model:
    """A copy of `model` whose weights have the units removed everywhere; no hooks are left.

    The weight and the bias of the batch norm before the layer's end are set to 0 for the units,
    so that they are 0 after it, and after the ReLU. In evaluation mode its outputs are, bit for
    bit, those of `ablated(model, units)`.

    Args:
        model: in evaluation mode, as it is in the copy.
        units: of a layer that ends in a batch norm and activations that keep zero.

    Raises:
        DissectError: the layer ends otherwise, so that nothing exact can be written.
    """
    edited = plain_copy(model)
    norm = _last_norm(resolve_layer(edited, units.layer), units)
    index = list(units.indices)
    with torch.no_grad():
        norm.weight[index] = 0.0
        norm.bias[index] = 0.0
    return edited


def _gate(where: Gate | Tensor, activation: Tensor, threshold: float) -> Tensor:
    if activation.ndim != 4:
        raise DissectError(
            f"a gate needs a grid (N, C, H, W), and the layer gives {tuple(activation.shape)}"
        )
    batch, grid = activation.shape[0], tuple(activation.shape[2:])
    value = where if isinstance(where, Tensor) else where.probability(activation)
    if tuple(value.shape) not in (grid, (1, *grid), (batch, *grid)):
        raise DissectError(
            f"the gate has shape {tuple(value.shape)}, and the layer's cells are {grid} for each "
            f"of {batch} samples"
        )
    is_open = value.to(activation.device)
    if is_open.dtype != torch.bool:
        is_open = is_open > threshold
    return is_open.expand(batch, *grid)


def _last_norm(layer: nn.Module, units: Units) -> nn.modules.batchnorm._BatchNorm:
    """The batch norm after which nothing in the layer moves a zero."""
    parts = list(layer.children()) if isinstance(layer, nn.Sequential) else [layer]
    while parts and isinstance(parts[-1], _KEEP_ZERO):
        parts.pop()
    norm = parts[-1] if parts else None
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or not norm.affine:
        raise DissectError(
            f"an edit of {units.layer!r} cannot be written into the weights exactly: the layer "
            "must be a Sequential that ends in a batch norm and a ReLU; use 'ablated' instead"
        )
    if norm.num_features != units.total:
        raise DissectError(
            f"{units.layer!r} has {norm.num_features} units, and these are of a layer of "
            f"{units.total}"
        )
    return norm
