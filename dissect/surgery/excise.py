"""Units cut out of a network, with every weight that made or read them."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from dissect._utils.errors import DissectError
from dissect.hooks import plain_copy
from dissect.hooks.modules import BatchNorm, InstanceNorm, has_output_hooks, resolve_layer
from dissect.surgery.graph import CONVS, TRANSPOSED_CONVS, keeps, traced_end, weights_in_doubt
from dissect.units import Units

__all__ = ["excise"]

_Model = TypeVar("_Model", bound=nn.Module)

# Beside what keeps zero: these treat every channel alone, too, and may come before the units.
_CHANNELWISE_MODULES = (
    nn.Hardsigmoid,
    nn.Hardtanh,
    nn.LogSigmoid,
    nn.Sigmoid,
    nn.Softplus,
)
_CHANNELWISE_FUNCTIONS = (F.hardtanh, F.logsigmoid, F.softplus, torch.sigmoid)
# These make another grid of every channel alone, a grid of zeros of one of zeros.
_RESIZING_MODULES = (
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.ReflectionPad2d,
    nn.ReplicationPad2d,
    nn.Upsample,
    nn.ZeroPad2d,
)
_RESIZING_FUNCTIONS = (F.adaptive_avg_pool2d, F.avg_pool2d, F.interpolate, F.max_pool2d)


def excise(model: _Model, units: Units) -> _Model:
    """A smaller copy of `model`: without the units, and without every weight that fed or read them.

    The convolution that makes the units loses their output channels, a norm between the two its
    entries, and what reads them its input channels. In evaluation mode its outputs are those of
    `ablated(model, units)` (Radford et al. 2015, section 6.3.1) within rounding: sums over fewer
    terms. A `Generator` records its new widths in its `config`, and is saved and loaded as before;
    the remaining units of the layer are renumbered in their order.

    Args:
        model: in evaluation mode, as it is in the copy.
        units: of which layer. A plain convolution must come before the layer's end, with nothing
            between but batch norm and what treats each channel alone; the layer must be read by
            convolutions, or by a linear layer after flattening, with nothing between but what
            keeps zero. Its forward must be one that `torch.fx` can follow.

    Raises:
        DissectError: no such layer, units of a layer of another size, all units of the layer, or
            a network in which it is not certain what made and what read them; the message says
            what stands in the way.

    >>> from dissect.models import Generator
    >>> model = Generator(latent_size=8, width=4, image_size=16).eval()
    >>> smaller = excise(model, Units("layer8x8", (0, 2), 4))
    >>> smaller.layer8x8.conv.out_channels
    2
    """
    if units.directions is not None:
        raise DissectError(
            "directions are no channels, which alone can be cut out: bake the edit instead"
        )
    edited = plain_copy(model)
    layer = resolve_layer(edited, units.layer)
    cuts = _Cuts(edited, layer, units)
    if len(units) == units.total:
        raise DissectError(
            f"these are all {units.total} units of {units.layer!r}: a layer keeps at least 1"
        )
    if len(units):
        cuts.make()
    return edited


class _Cuts:
    """What is cut out of which module, determined before anything is cut."""

    def __init__(self, model: nn.Module, layer: nn.Module, units: Units) -> None:
        self.model, self.units = model, units
        graph, end = traced_end(model, layer, self._uncertain)
        modules = dict(model.named_modules(remove_duplicate=False))
        self.called = {
            node: modules[str(node.target)] for node in graph.nodes if node.op == "call_module"
        }
        self.read_directly = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
        self.kept = [unit for unit in range(units.total) if unit not in set(units.indices)]
        self._cuts: list[tuple[nn.Module, Callable[[nn.Module, list[int]], None]]] = []
        self._follow_back(end)
        self._follow_on(end)
        for module, _ in self._cuts:
            self._refuse_shared(module)

    def make(self) -> None:
        """Cut."""
        for module, cut in self._cuts:
            cut(module, self.kept)

    def _follow_back(self, node: fx.Node) -> None:
        """From the layer's end to the convolution that makes the units."""
        while True:
            module = self.called.get(node)
            self._check_plain(module)
            if isinstance(module, CONVS):
                if module.groups != 1:
                    raise self._uncertain("the convolution that makes them is in groups")
                self._check_size(module.out_channels)
                self._cuts.append((module, _cut_outputs))
                return
            if isinstance(module, BatchNorm | InstanceNorm):
                self._check_size(module.num_features)
                self._cuts.append((module, _cut_norm))
            elif isinstance(module, nn.PReLU) and module.num_parameters > 1:
                self._cuts.append((module, _cut_slopes))
            elif not (
                keeps(node, module)
                or _is(node, module, _CHANNELWISE_MODULES, _CHANNELWISE_FUNCTIONS)
            ):
                raise self._uncertain(
                    f"{_called(node, module)} comes between them and a convolution"
                )
            if len(node.all_input_nodes) != 1:
                raise self._uncertain(f"they are made of {len(node.all_input_nodes)} values")
            (node,) = node.all_input_nodes
            if len(node.users) != 1:
                raise self._uncertain("what they are made of is used in another place, too")

    def _follow_on(self, node: fx.Node, *, flat: bool = False) -> None:
        """From the layer's end to all that reads the units."""
        if not node.users:
            raise self._uncertain("nothing reads them")
        for reader in node.users:
            module = self.called.get(reader)
            self._check_plain(module)
            if reader.op == "output":
                raise self._uncertain("they are what the model gives")
            if len(reader.all_input_nodes) != 1:
                raise self._uncertain(f"{_called(reader, module)} joins them with other values")
            if isinstance(module, CONVS) and not flat:
                if module.groups != 1:
                    raise self._uncertain("a convolution that reads them is in groups")
                self._check_size(module.in_channels)
                self._cuts.append((module, _cut_inputs))
            elif isinstance(module, nn.Linear) and flat:
                if module.in_features % self.units.total:
                    raise self._uncertain("a linear layer reads them in another order")
                self._cuts.append((module, _cut_features(self.units.total)))
            elif isinstance(module, nn.PReLU) and module.num_parameters > 1 and not flat:
                self._cuts.append((module, _cut_slopes))
                self._follow_on(reader)
            elif _flattens(reader, module) and not flat:
                self._follow_on(reader, flat=True)
            elif keeps(reader, module):
                self._follow_on(reader, flat=flat)
            elif _is(reader, module, _RESIZING_MODULES, _RESIZING_FUNCTIONS) and not flat:
                self._follow_on(reader)
            else:
                raise self._uncertain(f"{_called(reader, module)} reads them")

    def _check_plain(self, module: nn.Module | None) -> None:
        if module is not None and has_output_hooks(module):
            raise self._uncertain(f"a {type(module).__name__} on their way has hooks")

    def _check_size(self, total: int) -> None:
        if total != self.units.total:
            raise DissectError(
                f"layer {self.units.layer!r} has {total} units, and the units are of a layer of "
                f"{self.units.total}: choose the units on this model"
            )

    def _refuse_shared(self, module: nn.Module) -> None:
        """Refuse a module, or a weight of it, that has a part in anything else."""
        name = type(module).__name__
        if list(self.called.values()).count(module) > 1:
            raise self._uncertain(f"a {name} that makes or reads them runs more than once")
        doubt = weights_in_doubt(self.model, module, self.read_directly)
        if doubt:
            raise self._uncertain(f"a {name} that makes or reads them {doubt}")

    def _uncertain(self, reason: str) -> DissectError:
        return DissectError(
            f"units of {self.units.layer!r} cannot be cut out with certainty: {reason}; "
            "use 'bake' or 'ablated'"
        )


def _is(
    node: fx.Node, module: nn.Module | None, modules: tuple[Any, ...], functions: tuple[Any, ...]
) -> bool:
    if module is not None:
        return isinstance(module, modules)
    return node.op == "call_function" and node.target in functions


def _flattens(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether it lays every sample's channels end to end."""
    if module is not None:
        return isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
    return (
        (node.target is torch.flatten or node.target == "flatten")
        and node.args[1:] == (1,)
        and not node.kwargs
    )


def _called(node: fx.Node, module: nn.Module | None) -> str:
    target = node.target if module is None else type(module)
    return getattr(target, "__name__", str(target))


def _taken(values: Tensor, dim: int, kept: list[int]) -> Tensor:
    index = torch.tensor(kept, device=values.device)
    return values.detach().index_select(dim, index)


def _put(module: nn.Module, name: str, dim: int, kept: list[int]) -> None:
    """Leave only the kept entries of a parameter or buffer, where the module has it."""
    value = getattr(module, name, None)
    if isinstance(value, nn.Parameter):
        setattr(module, name, nn.Parameter(_taken(value, dim, kept), value.requires_grad))
    elif isinstance(value, Tensor):
        setattr(module, name, _taken(value, dim, kept))


def _cut_outputs(module: Any, kept: list[int]) -> None:
    _put(module, "weight", 1 if isinstance(module, TRANSPOSED_CONVS) else 0, kept)
    _put(module, "bias", 0, kept)
    module.out_channels = len(kept)


def _cut_inputs(module: Any, kept: list[int]) -> None:
    _put(module, "weight", 0 if isinstance(module, TRANSPOSED_CONVS) else 1, kept)
    module.in_channels = len(kept)


def _cut_norm(module: Any, kept: list[int]) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        _put(module, name, 0, kept)
    module.num_features = len(kept)


def _cut_slopes(module: Any, kept: list[int]) -> None:
    _put(module, "weight", 0, kept)
    module.num_parameters = len(kept)


def _cut_features(total: int) -> Callable[[nn.Module, list[int]], None]:
    """What cuts a linear layer that reads `total` flattened channels."""

    def cut(module: Any, kept: list[int]) -> None:
        cells = module.in_features // total
        columns = [unit * cells + cell for unit in kept for cell in range(cells)]
        _put(module, "weight", 1, columns)
        module.in_features = len(columns)

    return cut
