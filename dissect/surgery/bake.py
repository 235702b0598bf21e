"""Edits written into a network for good.

    edited = bake(G, units)                  # removed everywhere: zeros in the weights
    edited = bake(G, units, where=probe)     # removed where the probe sees the concept: a module
    dissect.save("edited.safetensors", edited)

Both are plain modules without hooks, and give bit for bit the images of `ablated`. A strength other
than 1 goes into plain weights, too, where rounding may differ (`exact=False`).
"""

from collections import OrderedDict
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks import plain_copy
from dissect.hooks.modules import BatchNorm, named_modules, resolve_layer
from dissect.models.dcgan import add_edit
from dissect.models.gated import GatedEdit
from dissect.surgery.ablate import check_edit
from dissect.surgery.gates import Gate, LinearGate, MaskGate, linear_gate
from dissect.surgery.graph import norm_that_ends
from dissect.surgery.scaling import scale_units
from dissect.units import Units

__all__ = ["bake"]

_Model = TypeVar("_Model", bound=nn.Module)


def bake(
    model: _Model,
    units: Units,
    *,
    where: "Gate | Tensor | Literal['everywhere'] | None" = None,
    threshold: float = 0.5,
    strength: "float | Tensor" = 1.0,
    replacement: "Literal['zero'] | Tensor" = "zero",
    exact: bool = True,
) -> _Model:
    """A copy of `model` in which the units are edited for good; no hooks are left.

    In evaluation mode its outputs are, bit for bit, those of `ablated` with the same arguments.
    How that is written depends on the edit:

    - Removal everywhere (Radford et al. 2015, section 6.3.1), the default, goes into the weights:
      the batch norm before the layer's end gets the weight 0 and the bias 0 for the units, so that
      they are 0 after it, and after the ReLU. Names and shapes of the weights stay as they are.
    - A value in the units' place, none below 0, everywhere: the same with the value for the bias,
      where the layer allows it; else as below.
    - Everything else becomes a `GatedEdit` at the layer's end: the probe as one 1x1 convolution
      with its threshold, a region, a strength. A layer that is a plain `nn.Sequential` gets it as
      its last part, `edit`; any other is put with it into a `Sequential` of `layer` and `edit`.

    Args:
        model: in evaluation mode, as it is in the copy.
        units: of which layer. To be removed in the weights, it must end in a batch norm and
            activations that keep zero, as ReLU and LeakyReLU do. It may be a block, a batch norm,
            or an activation that comes straight after one; its forward must be one that
            `torch.fx` can follow.
        where: None or `everywhere`; a `LinearGate` or what gives one, as a `Probe`, alone or in
            a `MaskGate`; or a region of the grid, (H, W).
        threshold, strength, replacement: as `ablated` takes them.
        exact: bit for bit. False writes a removal everywhere of another strength, or of one a
            unit, into the weights of the convolutions that read the units, rather than into a
            module: names and shapes stay as they are, and images are those of `ablated` within
            rounding (1e-5).

    Raises:
        DissectError: no such layer, units of a layer of another size, a layer for which nothing
            exact can be written into the weights, a gate that is not linear or differs from
            sample to sample, or a value out of its range.
    """
    check_edit(units, where, threshold, strength, replacement)
    edited = plain_copy(model)
    layer = resolve_layer(edited, units.layer)
    single = None if isinstance(strength, Tensor) else strength
    if single == 0 or not len(units):
        return edited
    everywhere = where is None or isinstance(where, str)
    if everywhere and single != 1 and isinstance(replacement, str) and not exact:
        amount = strength if isinstance(strength, Tensor) else torch.full((len(units),), strength)
        scale_units(edited, units, 1 - amount)
        return edited
    if everywhere and single == 1:
        if isinstance(replacement, str):
            _write(edited, units, torch.zeros(len(units)), keep="zero")
            return edited
        if bool((replacement >= 0).all()):
            try:
                _write(edited, units, replacement, keep="positive")
            except _NotInWeightsError:
                pass
            else:
                return edited
    _insert(
        edited, layer, units.layer, _edit(edited, units, where, threshold, strength, replacement)
    )
    return edited


class _NotInWeightsError(DissectError):
    """The layer's weights cannot hold the edit; a module can."""


def _write(
    model: nn.Module, units: Units, values: Tensor, *, keep: Literal["zero", "positive"]
) -> None:
    """Let the units be the values, through the bias of the batch norm that ends the layer."""
    try:
        norm = norm_that_ends(model, units.layer, keep=keep)
    except DissectError as error:
        raise _NotInWeightsError(str(error)) from error
    _check_size(units.layer, units.total, norm.num_features)
    index = list(units.indices)
    with torch.no_grad():
        norm.weight[index] = 0.0
        norm.bias[index] = values.to(norm.bias)


def _edit(
    model: nn.Module,
    units: Units,
    where: "Gate | Tensor | str | None",
    threshold: float,
    strength: "float | Tensor",
    replacement: "str | Tensor",
) -> GatedEdit:
    """The module that does to a layer's output what `ablated` does."""
    gate, region = _as_linear(where)
    if gate is None and region is not None:
        # As it is compared there, before it is rounded to single precision.
        region = (region if region.dtype == torch.bool else region > threshold).float()
    if region is not None and region.ndim == 3 and len(region) == 1:
        region = region[0]
    if region is not None and region.ndim != 2:
        raise DissectError(
            f"a region in a network is the same for every sample, (H, W), not {tuple(region.shape)}"
        )
    made = GatedEdit(
        units.total,
        probe=gate is not None,
        grid=None if region is None else (region.shape[0], region.shape[1]),
        threshold=threshold,
        strength=None if isinstance(strength, Tensor) else strength,
    )
    weight = next(model.parameters(), torch.empty(0))
    made.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
    index = list(units.indices)
    with torch.no_grad():
        made.edited[index] = True
        if isinstance(replacement, Tensor):
            made.values[index] = replacement.to(made.values)
        if isinstance(strength, Tensor) and made.strengths is not None:
            made.strengths[index] = strength.to(made.strengths)
        if region is not None and made.region is not None:
            made.region.copy_(region)
        if gate is not None and made.probe is not None and made.probe.bias is not None:
            _check_size(units.layer, units.total, len(gate.weight))
            made.probe.weight.copy_(gate.weight.reshape(1, -1, 1, 1))
            made.probe.bias.fill_(gate.bias)
    return made.eval()


def _as_linear(where: "Gate | Tensor | str | None") -> tuple[LinearGate | None, Tensor | None]:
    """The gate as a convolution, and the region that it is multiplied by, where there are such."""
    if where is None or isinstance(where, str):
        return None, None
    if isinstance(where, Tensor):
        return None, where
    if isinstance(where, MaskGate):
        inner, region = _as_linear(where.inner)
        return inner, where.region if region is None else where.region * region.to(where.region)
    gate = linear_gate(where)
    if gate is None:
        raise DissectError(
            f"a gate of type {type(where).__name__} cannot be written into a network: use a probe, "
            "a region, or 'ablated'"
        )
    return gate, None


def _insert(model: nn.Module, layer: nn.Module, name: str, edit: GatedEdit) -> None:
    """Let the layer end in the edit, wherever it is registered."""
    if layer is resolve_layer(model, ""):
        raise DissectError("an edit cannot be written at the end of the whole model: name a layer")
    if type(layer) is nn.Sequential:
        _check_block(layer, edit, name)
        add_edit(layer, edit)
        return
    if isinstance(layer, GatedEdit):
        raise DissectError(f"{name!r} is itself an edit: name the layer that it ends")
    wrapped = nn.Sequential(OrderedDict(layer=layer, edit=edit)).train(layer.training)
    for parent in set(named_modules(model).values()) - {wrapped}:
        for key, child in parent._modules.items():
            if child is layer:
                parent._modules[key] = wrapped


def _check_block(block: nn.Sequential, edit: GatedEdit, name: str) -> None:
    """Refuse units of another size where the block's last norm tells how many it has."""
    norms = [part for part in block if isinstance(part, BatchNorm)]
    if norms:
        _check_size(name, len(edit.edited), norms[-1].num_features)


def _check_size(layer: str, units: int, total: int) -> None:
    if total != units:
        raise DissectError(
            f"layer {layer!r} has {total} units, and the units are of a layer of {units}: "
            "choose the units on this model"
        )
