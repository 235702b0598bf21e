"""Units removed for a while.

    with ablated(G, units):                  # the paper's edit: everywhere
        after = G(z)
    with ablated(G, units, where=probe):     # only at the cells that the probe calls the concept
        after = G(z)

Section 6.3.1 of Radford et al. (2015) drops feature maps at all positions; Bau et al. (2019, GAN
Dissection) replace units by a constant. An edit acts on the output of the layer, that is after
its non-linearity: before it, the batch norm's shift would bring a zeroed unit back.
"""

from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks import activations, edit
from dissect.surgery.gates import Gate, open_cells
from dissect.units import Units

__all__ = ["ablated", "check_edit", "mean_activation"]


def ablated(
    model: nn.Module,
    units: Units,
    *,
    where: "Gate | Tensor | Literal['everywhere'] | None" = None,
    threshold: float = 0.5,
    strength: "float | Tensor" = 1.0,
    replacement: "Literal['zero'] | Tensor" = "zero",
    allow_training: bool = False,
) -> AbstractContextManager[None]:
    """A context manager in which the units of one layer are removed.

    The activation a of a unit becomes a - strength * (a - replacement) at the cells where the
    gate is open; every other value stays as it is, to the bit. Radford et al. (2015), section
    6.3.1, is the default; other replacements are those of GAN Dissection (Bau et al. 2019).

    Args:
        model: what has the layer, in evaluation mode.
        units: which units of which layer.
        where: None or `everywhere` is every position (the paper). A `Gate`, such as the probe,
            opens at the cells whose probability is above `threshold`, judged on the activation
            as it comes to this edit. A tensor (H, W) or (N, H, W) opens where it is above
            `threshold`, or True; N is the batch.
        threshold: in [0, 1).
        strength: 0 leaves the units, 1 puts the replacement in their place, 2 turns the sign of
            what the units had beyond it; or one such value a unit, (len(units),).
        replacement: `zero`, or one value a unit, (len(units),), such as `mean_activation`'s.
        allow_training: edit a model whose batch norm or dropout is in training mode.

    Raises:
        DissectError: no such layer, units of a layer of another size, a gate of another layer,
            grid or batch, a value out of its range, or batch norm or dropout in training mode.
    """
    check_edit(units, where, threshold, strength, replacement)

    def remove(activation: Tensor) -> Tensor:
        _check_units(activation, units)
        single = None if isinstance(strength, Tensor) else strength
        if not len(units) or single == 0:
            return activation
        index = torch.tensor(units.indices, device=activation.device)
        everywhere = where is None or isinstance(where, str)
        if everywhere and single == 1 and isinstance(replacement, str):
            return activation.index_fill(1, index, 0.0)
        before = activation.index_select(1, index)
        shape = (1, -1, *([1] * (activation.ndim - 2)))
        if isinstance(replacement, str):
            target = torch.zeros_like(before)
        else:
            target = replacement.to(before).reshape(shape).expand_as(before)
        amount = strength.to(before).reshape(shape) if isinstance(strength, Tensor) else strength
        # Strength 1 puts the target itself: a - 1 * (a - t) is not t to the last digit.
        after = target if single == 1 else before - amount * (before - target)
        if where is not None and not isinstance(where, str):
            is_open = open_cells(where, activation, threshold, units.layer)
            after = torch.where(is_open.unsqueeze(1), after, before)
        return activation.index_copy(1, index, after)

    # What `remove` gives is nobody else's, so that it need not be copied.
    return edit(model, {units.layer: remove}, copy=False, allow_training=allow_training)


def mean_activation(
    model: nn.Module, units: Units, latents: Tensor, *, batch_size: int = 100
) -> Tensor:
    """The mean of each of the units over latents and positions, (len(units),), on the CPU.

    What mean ablation puts in a unit's place, rather than zero.

    Raises:
        DissectError: what `activations` raises, no latents, or units of a layer of another size.
    """
    if not len(latents):
        raise DissectError("a mean needs at least 1 latent")
    total = torch.zeros(len(units), dtype=torch.float64)
    for part in torch.split(latents, max(batch_size, 1)):
        acts = activations(model, units.layer, part, batch_size=batch_size)
        _check_units(acts, units)
        chosen = acts[:, list(units.indices)].cpu().double()
        total += chosen.reshape(*chosen.shape[:2], -1).mean(2).sum(0)
    return (total / len(latents)).float()


def check_edit(
    units: Units, where: object, threshold: float, strength: "float | Tensor", replacement: object
) -> None:
    """Nothing, where these can be the arguments of `ablated` and `bake`.

    Raises:
        DissectError: one of them is unknown, out of its range, or for other units.
    """
    if isinstance(strength, Tensor):
        if strength.shape != (len(units),):
            raise DissectError(
                f"strength needs one value for each of the {len(units)} units, not the shape "
                f"{tuple(strength.shape)}"
            )
        if not bool(((strength >= 0) & (strength <= 2)).all()):
            raise DissectError("every unit's strength must be from 0 to 2")
    elif not 0 <= strength <= 2:
        raise DissectError(f"strength must be from 0 to 2, not {strength:g}")
    if not 0 <= threshold < 1:
        raise DissectError(f"threshold must be at least 0 and below 1, not {threshold:g}")
    _check_where(where, units)
    _check_replacement(replacement, units)


def _check_where(where: object, units: Units) -> None:
    if where is None or isinstance(where, Tensor):
        return
    if isinstance(where, str) and where == "everywhere":
        return
    if not isinstance(where, Gate):
        raise DissectError(f"where={where!r} is not known: use 'everywhere', a probe or a tensor")
    layer = getattr(where, "layer", None) or units.layer
    if layer != units.layer:
        raise DissectError(
            f"the probe reads {layer!r} and the units are of {units.layer!r}: fit one on that layer"
        )


def _check_replacement(replacement: object, units: Units) -> None:
    if not isinstance(replacement, Tensor):
        if replacement != "zero":
            raise DissectError(f"replacement={replacement!r} is not known: use 'zero' or a tensor")
        return
    if replacement.shape != (len(units),):
        raise DissectError(
            f"replacement needs one value for each of the {len(units)} units, not the shape "
            f"{tuple(replacement.shape)}"
        )
    if not torch.isfinite(replacement).all():
        raise DissectError("the values of a replacement must be finite numbers")


def _check_units(activation: Tensor, units: Units) -> None:
    if activation.ndim < 2 or activation.shape[1] != units.total:
        raise DissectError(
            f"layer {units.layer!r} gives {tuple(activation.shape)}, and the units are of a layer "
            f"of {units.total}: choose the units on this model"
        )
