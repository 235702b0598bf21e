"""Short forms of one edit of the units of one layer, for a while or for good.

with ablated(G, units):                  # the paper's edit: everywhere
    after = G(z)
with ablated(G, units, where=probe):     # only at the cells that the probe calls the concept
    after = G(z)
edited = bake(G, units)                  # for good: zeros in the weights
edited = bake(G, units, where=probe)     # for good: a module without hooks
dissect.save("edited.safetensors", edited)
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks import activations
from dissect.surgery.gates import Gate
from dissect.surgery.intervention import Intervention
from dissect.units import Units

__all__ = ["ablated", "bake", "inserted", "mean_activation"]

_Model = TypeVar("_Model", bound=nn.Module)
_Where = Gate | Tensor | Literal["everywhere"] | None


def ablated(
    model: nn.Module,
    units: Units,
    *,
    where: _Where = None,
    threshold: float = 0.5,
    strength: float | Tensor = 1.0,
    replacement: Literal["zero"] | Tensor = "zero",
    allow_training: bool = False,
) -> AbstractContextManager[None]:
    """A context manager in which the units of one layer are removed (see `Intervention`).

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

    Example:
        >>> import torch
        >>> from dissect.units import Units
        >>> layer = torch.nn.Sequential(torch.nn.Identity()).eval()
        >>> with ablated(layer, Units("0", (1,), 3)):
        ...     layer(torch.ones(1, 3))
        tensor([[1., 0., 1.]])
    """
    edit = _edit(units, where, threshold, strength, replacement)
    return edit.applied(model, allow_training=allow_training)


def inserted(
    model: nn.Module,
    units: Units,
    *,
    where: _Where = None,
    values: Tensor | Iterable[float],
    threshold: float = 0.5,
) -> AbstractContextManager[None]:
    """A context manager in which the units have these values where the gate is open.

    `bake(model, units, where=..., replacement=values)` writes the same into a network, and
    `Intervention.insert` finds units and values that put a concept in. Bau et al. (2019, GAN
    Dissection) draw doors so: a few units set to a high constant at a place.

    Args:
        model: in evaluation mode.
        units: of one layer.
        where: as `ablated` takes it: a region (H, W) of the layer's grid, a region a sample
            (N, H, W), or a probe.
        values: (len(units),), what they are set to.
        threshold: in [0, 1).

    Raises:
        DissectError: as `ablated`.
    """
    if not isinstance(values, Tensor):
        values = torch.tensor(list(values), dtype=torch.float32)
    return ablated(model, units, where=where, threshold=threshold, replacement=values)


def bake(
    model: _Model,
    units: Units,
    *,
    where: _Where = None,
    threshold: float = 0.5,
    strength: float | Tensor = 1.0,
    replacement: Literal["zero"] | Tensor = "zero",
    exact: bool = True,
) -> _Model:
    """A copy of `model` in which the units are edited for good (see `Intervention.bake`).

    Args:
        model: in evaluation mode, as it is in the copy.
        units, where, threshold, strength, replacement: as `ablated` takes them; a gate is linear,
            as that of a `Probe`, and the same for every sample.
        exact: whether the images must be those of `ablated` to the bit.

    Raises:
        DissectError: as `ablated`, or an edit that cannot be written so.

    >>> from dissect.models import Generator, latents_for
    >>> model = Generator(latent_size=8, width=4, image_size=16).eval()
    >>> units, z = Units("layer8x8", (0, 2), 4), latents_for(model, 5)
    >>> with torch.inference_mode(), ablated(model, units):
    ...     images = model(z)
    >>> with torch.inference_mode():
    ...     bool((bake(model, units)(z) == images).all())
    True
    """
    return _edit(units, where, threshold, strength, replacement).bake(model, exact=exact)


def mean_activation(
    model: nn.Module, units: Units, latents: Tensor, *, batch_size: int = 100
) -> Tensor:
    """The mean of each of the units over latents and positions, (len(units),), on the CPU.

    What mean ablation puts in a unit's place, rather than zero.

    Raises:
        DissectError: what `activations` raises, no latents, or units of a layer of another size.

    >>> from dissect.models import Generator, latents_for
    >>> model = Generator(latent_size=8, width=4, image_size=16).eval()
    >>> means = mean_activation(model, Units("layer4x4", (0, 2), 8), latents_for(model, 5))
    >>> tuple(means.shape)
    (2,)
    """
    if not len(latents):
        raise DissectError("a mean needs at least 1 latent")
    total = torch.zeros(len(units), dtype=torch.float64)
    for part in torch.split(latents, max(batch_size, 1)):
        acts = activations(model, units.layer, part, batch_size=batch_size)
        chosen = units.values(acts).cpu().double()
        total += chosen.reshape(*chosen.shape[:2], -1).mean(2).sum(0)
    return (total / len(latents)).float()


def _edit(
    units: Units,
    where: _Where,
    threshold: float,
    strength: float | Tensor,
    replacement: Literal["zero"] | Tensor,
) -> Intervention:
    """The arguments of `ablated` as an edit."""
    gate: Gate | None = None
    region = where if isinstance(where, Tensor) else None
    if isinstance(where, Gate):
        gate = where
    elif region is None and where is not None and not _is_everywhere(where):
        raise DissectError(f"where={where!r} is not known: use 'everywhere', a probe or a tensor")
    strengths = None
    if isinstance(strength, Tensor):
        strengths, strength = tuple(_one_a_unit("strength", strength, units).tolist()), 1.0
    if isinstance(replacement, Tensor):
        values = _one_a_unit("replacement", replacement, units)
        replacement = values.new_zeros(units.total)
        replacement[list(units.indices)] = values
    return Intervention(units, gate, region, threshold, strength, strengths, replacement)


def _is_everywhere(where: object) -> bool:
    return isinstance(where, str) and where == "everywhere"


def _one_a_unit(name: str, values: Tensor, units: Units) -> Tensor:
    if values.shape != (len(units),):
        raise DissectError(
            f"{name} needs one value for each of the {len(units)} units, not the shape "
            f"{tuple(values.shape)}"
        )
    return values
