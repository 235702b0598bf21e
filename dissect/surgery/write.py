"""Edits written into a network for good: into its weights, or as a module at a layer's end."""

from contextlib import suppress
from typing import Literal

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks.modules import BatchNorm, plain_copy, resolve_layer
from dissect.models import Edit, generate, latents_for
from dissect.models.gated import GatedEdit
from dissect.surgery.apply import edit_amounts, unit_levels
from dissect.surgery.edited_layer import append_edit
from dissect.surgery.gates import Gate, LinearGate, MaskGate, linear_gate
from dissect.surgery.graph import (
    CONVS,
    TRANSPOSED_CONVS,
    check_runs_once,
    convolution_before,
    maker_of,
    traced_end,
    weights_in_doubt,
)
from dissect.surgery.layer_edit import LayerEdit
from dissect.units import Units

__all__ = ["check_written", "write_edit"]

# How far images may be from those of the edit by rounding, as a fraction of the largest value.
_ROUNDING = 1e-5


def write_edit(model: nn.Module, edit: LayerEdit, *, exact: bool) -> None:
    """Change `model` so that it is edited for good: in its weights where they can hold the edit.

    The edits in `edit.also` are not written. See `Intervention.bake`.
    """
    units, replacement = edit.units, unit_levels(edit)
    layer = resolve_layer(model, units.layer)
    single = edit.strength if edit.unit_strengths is None else None
    if single == 0 or not len(units):
        return
    everywhere = edit.where is None
    values = torch.zeros(len(units)) if replacement is None else replacement
    if everywhere and single == 1 and units.directions is None and bool((values >= 0).all()):
        keep: Literal["zero", "positive"] = "zero" if replacement is None else "positive"
        with suppress(_NotInWeightsError):
            _write(model, units, values, keep=keep)
            return
    if everywhere and replacement is None and not exact:
        _fold_into_readers(model, units, edit_amounts(edit))
        return
    check_runs_once(model, layer, units.layer)
    _check_block(layer, units)
    append_edit(model, units.layer, _as_module(model, edit))


def check_written(
    model: nn.Module, edited: nn.Module, edit: Edit, *, layers: tuple[str, ...], exact: bool
) -> None:
    """Nothing, where images of two latents with the edit are those of the edited model.

    Models of which no latents are known, or that give one latent two images, are not checked.

    Raises:
        DissectError: the edited model gives other images.
    """
    if model.training:
        return
    model = plain_copy(model)  # blocks that are open around the call are not in the edited one
    try:
        z = latents_for(model, 2)
        plain = [generate(model, z, batch_size=2) for _ in range(2)]
    except Exception:  # its inputs are not latents alone
        return
    if not _is_equal(*plain):
        return
    named = ", ".join(map(repr, layers))
    wanted = generate(model, z, batch_size=2, edit=edit)
    try:
        images = generate(edited, z, batch_size=2)
    except Exception as error:  # whatever the code around the layer does with the edited one
        raise DissectError(
            f"an edit of {named} cannot be written into this network, whose code then fails "
            f"({type(error).__name__}: {error}); use 'applied'"
        ) from error
    rounding = _ROUNDING if torch.finfo(wanted.dtype).bits > 16 else 1e-2
    most = rounding * float(wanted.abs().max().clamp(min=1))
    if not _is_equal(images, wanted) and (
        exact or not torch.allclose(images, wanted, rtol=0, atol=most, equal_nan=True)
    ):
        difference = float((images - wanted).abs().nan_to_num(torch.inf).max())
        raise DissectError(
            f"an edit of {named} cannot be written into this network: images of the copy differ "
            f"by {difference:.2g} from those of the edit; use 'applied'"
        )


def _is_equal(first: Tensor, second: Tensor) -> bool:
    return bool(((first == second) | (first.isnan() & second.isnan())).all())


def _fold_into_readers(model: nn.Module, units: Units, amounts: Tensor) -> None:
    """Let the weights that read the layer read it with less of the units; in place.

    The layers that read the units are linear in them, so that the outputs are those of the edited
    layer within rounding. Names and shapes stay as they are.

    Args:
        model: in evaluation mode.
        units: of a layer that convolutions alone read, straight from its end.
        amounts: (len(units),), the strength at which each unit is removed.

    Raises:
        DissectError: no such layer, units of a layer of another size, directions that are not
            linear, or a layer that anything but a plain convolution with weights of its own reads.
    """

    def refuse(reason: str) -> DissectError:
        return DissectError(
            f"this edit of {units.layer!r} cannot be written into plain weights: {reason}; leave "
            "it to a module at the layer's end ('exact')"
        )

    along = units.directions
    if along is not None and (along.rectified or bool(along.offsets.any())):
        # At a border, a convolution reads zeros that no bias has changed.
        raise refuse("its directions have biases or a rectifier")
    graph, end = traced_end(model, resolve_layer(model, units.layer), refuse)
    modules = dict(model.named_modules(remove_duplicate=False))
    called = [modules[str(node.target)] for node in graph.nodes if node.op == "call_module"]
    direct = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    readers: list[nn.Module] = []
    for node in end.users:
        reader = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(reader, CONVS) or reader.groups != 1:
            raise refuse(f"{type(reader).__name__ if reader else node.op} reads the units")
        if called.count(reader) > 1:
            raise refuse(f"a {type(reader).__name__} that reads the units runs more than once")
        doubt = weights_in_doubt(model, reader, direct)
        if doubt:
            raise refuse(f"a {type(reader).__name__} that reads the units {doubt}")
        _check_size(units.layer, units.channels, reader.in_channels)
        readers.append(reader)
    if not readers:
        raise refuse("nothing reads the units")
    with torch.no_grad():
        for reader in readers:
            weight = reader.get_parameter("weight")
            inputs = weight if isinstance(reader, TRANSPOSED_CONVS) else weight.transpose(0, 1)
            if along is None:
                shape = (-1, *([1] * (weight.ndim - 1)))
                inputs[list(units.indices)] *= (1 - amounts).to(weight).reshape(shape)
                continue
            read, write = (side.double().to(weight.device) for side in (along.read, along.write))
            written = torch.einsum("kc,c...->k...", write, inputs.double())
            less = torch.einsum("kc,k,k...->c...", read, amounts.to(read), written)
            inputs.sub_(less.to(weight))


class _NotInWeightsError(DissectError):
    """The layer's weights cannot hold the edit; a module can."""


def _write(
    model: nn.Module, units: Units, values: Tensor, *, keep: Literal["zero", "positive"]
) -> None:
    """Let the units be the values, through what makes them: a norm, or a convolution."""
    try:
        maker = maker_of(model, units.layer, keep=keep)
    except DissectError as error:
        raise _NotInWeightsError(str(error)) from error
    _check_size(units.layer, units.total, _width(maker))
    if maker.bias is None and bool(values.any()):
        raise _NotInWeightsError("a convolution without a bias makes the units")
    index = list(units.indices)
    if maker.bias is not None and not bool(values.to(maker.bias).isfinite().all()):  # type: ignore[arg-type]
        raise DissectError(
            f"the values for units of {units.layer!r} are too large for {maker.bias.dtype}"
        )
    conv = None if isinstance(maker, (*CONVS, nn.GroupNorm)) else convolution_before(model, maker)
    with torch.no_grad():
        _outputs(maker)[index] = 0.0
        if maker.bias is not None:
            bias = maker.get_parameter("bias")
            bias[index] = values.to(bias)
        if conv is not None:  # 0 times a unit that overflowed would be no number
            _outputs(conv)[index] = 0.0
            if conv.bias is not None:
                conv.get_parameter("bias")[index] = 0.0


def _outputs(module: nn.Module) -> Tensor:
    """The weights of a norm or a convolution with its outputs first."""
    weight = module.get_parameter("weight")
    return weight.transpose(0, 1) if isinstance(module, TRANSPOSED_CONVS) else weight


def _width(module: nn.Module) -> int:
    return len(_outputs(module))


def _as_module(model: nn.Module, edit: LayerEdit) -> GatedEdit:
    """The module that does to a layer's output what the edit does with a hook."""
    units, threshold, replacement = edit.units, edit.threshold, unit_levels(edit)
    along = units.directions
    gate, region = _as_linear(edit.where)
    if gate is None and region is not None:
        # As it is compared there, before it is rounded to single precision.
        region = (region if region.dtype == torch.bool else region > threshold).float()
    if region is not None and region.ndim == 3 and len(region) == 1:
        region = region[0]
    if region is not None and region.ndim != 2:
        raise DissectError(
            f"a region in a network is the same for every sample, (H, W), not {tuple(region.shape)}"
        )
    module = GatedEdit(
        units.channels,
        probe=gate is not None,
        grid=None if region is None else (region.shape[0], region.shape[1]),
        threshold=threshold,
        strength=edit.strength if edit.unit_strengths is None and along is None else None,
        directions=None if along is None else len(along),
        rectified=along is not None and along.rectified,
    )
    weight = next(model.parameters(), torch.empty(0))
    module.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
    index = list(units.indices) if along is None else list(range(len(along)))
    with torch.no_grad():
        if along is None:
            module.edited[index] = True
        else:
            module.read, module.write = along.read.to(module.values), along.write.to(module.values)
            module.bias = along.offsets.to(module.values)
        if isinstance(replacement, Tensor):
            module.values[index] = replacement.to(module.values)
        if module.strengths is not None:
            module.strengths[index] = edit_amounts(edit).to(module.values)
        if region is not None and module.region is not None:
            module.region.copy_(region)
        if gate is not None and module.probe is not None and module.probe.bias is not None:
            _check_size(units.layer, units.channels, len(gate.weight))
            module.probe.weight.copy_(gate.weight.reshape(1, -1, 1, 1))
            module.probe.bias.fill_(gate.bias)
    return module.eval()


def _as_linear(where: Gate | Tensor | None) -> tuple[LinearGate | None, Tensor | None]:
    """The gate as a convolution, and the region that it is multiplied by, where there are such."""
    if where is None:
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


def _check_block(layer: nn.Module, units: Units) -> None:
    """Refuse units of a layer of another size, by the last norm of a block."""
    norms = [part for part in layer.children() if isinstance(part, BatchNorm)]
    if isinstance(layer, nn.Sequential) and norms:
        _check_size(units.layer, units.channels, norms[-1].num_features)


def _check_size(layer: str, units: int, total: int) -> None:
    if total != units:
        raise DissectError(
            f"layer {layer!r} has {total} units, and the units are of a layer of {units}: "
            "choose the units on this model"
        )
