"""Which weights decide what a unit is, read from the forward code by `torch.fx`."""

from collections.abc import Callable, Collection
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from dissect._utils.errors import DissectError
from dissect.hooks.modules import (
    BatchNorm,
    Dropout,
    InstanceNorm,
    has_output_hooks,
    has_pre_hooks,
    named_modules,
    resolve_layer,
    runs_class_forward,
)
from dissect.models.gated import GatedEdit

__all__ = [
    "CONVS",
    "TRANSPOSED_CONVS",
    "check_runs_once",
    "convolution_before",
    "keeps",
    "maker_of",
    "read_directly",
    "traced_end",
    "weights_in_doubt",
]

TRANSPOSED_CONVS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED_CONVS)

# Of a weight and a bias of 0 these give 0, and of each unit from its own weight and bias.
MAKERS: tuple[type[nn.Module], ...] = (
    *CONVS,
    *get_args(BatchNorm),
    *get_args(InstanceNorm),
    nn.GroupNorm,
)

# Of 0 these give 0, to the bit, and of one unit's cell that cell alone (in evaluation mode).
KEEP_ZERO_MODULES = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardswish,
    nn.Identity,
    nn.LeakyReLU,
    nn.Mish,
    nn.PReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.RReLU,
    nn.SELU,
    nn.SiLU,
    nn.Softsign,
    nn.Tanh,
    Dropout,
)
KEEP_ZERO_FUNCTIONS = (
    F.celu,
    F.elu,
    F.gelu,
    F.hardswish,
    F.leaky_relu,
    F.mish,
    F.relu,
    F.relu6,
    F.selu,
    F.silu,
    F.softsign,
    F.tanh,
    torch.relu,
    torch.relu_,
    torch.tanh,
)
KEEP_ZERO_METHODS = ("clone", "contiguous", "relu", "relu_", "tanh", "tanh_")

# These give back 0 and every number above it as they are.
KEEP_POSITIVE_MODULES = (
    nn.CELU,
    nn.ELU,
    nn.Identity,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ReLU,
    nn.RReLU,
    Dropout,
)
KEEP_POSITIVE_FUNCTIONS = (F.celu, F.elu, F.leaky_relu, F.relu, torch.relu, torch.relu_)
KEEP_POSITIVE_METHODS = ("clone", "contiguous", "relu", "relu_")

Kept = Literal["zero", "positive"]


def maker_of(model: nn.Module, name: str, *, keep: Kept = "zero") -> nn.Module:
    """The norm or convolution whose zeros are the layer's: only what keeps zero comes after it.

    It is the layer, or lies in it, or comes straight before it. What the data passes through is
    read from the forward code by `torch.fx`, not from the order in which modules are registered.
    It has a weight and, unless it is a convolution, a bias.

    Args:
        model: what has the layer.
        name: the layer's name.
        keep: `positive` asks that numbers above zero come through as they are, too.

    Raises:
        DissectError: no such layer, or none that is certain.
    """
    layer = resolve_layer(model, name)
    if has_output_hooks(layer):
        raise _inexact(name, "the layer has forward hooks")
    # A class that is derived from torch's may compute something else, as conditional norms do.
    is_maker = isinstance(layer, MAKERS) and fx.Tracer().is_leaf_module(layer, name)
    maker = layer if is_maker else _traced_back(model, name, layer, keep)
    kind = "convolution" if isinstance(maker, CONVS) else "norm"
    if getattr(maker, "weight", None) is None:
        raise _inexact(name, f"its {kind} has no weight and bias (affine=False)")
    if isinstance(maker, TRANSPOSED_CONVS) and maker.groups != 1:
        raise _inexact(name, "the convolution that makes them is in groups")
    modules = list(named_modules(model).values())
    if modules.count(maker) > 1:
        raise _inexact(name, f"its {kind} is shared with another layer")
    doubt = weights_in_doubt(model, maker, read_directly(model))
    if doubt:
        raise _inexact(name, f"its {kind} {doubt}")
    return maker


def convolution_before(model: nn.Module, norm: nn.Module) -> nn.Module | None:
    """The convolution that alone feeds a norm, and nothing else, where that is certain."""
    try:
        graph = _Tracer().trace(model)
    except Exception:  # whatever the model's code does with a stand-in for a tensor
        return None
    modules = dict(model.named_modules(remove_duplicate=False))
    called = {node: modules[str(node.target)] for node in graph.nodes if node.op == "call_module"}
    nodes = [node for node, module in called.items() if module is norm]
    feeds = nodes[0].all_input_nodes if len(nodes) == 1 else []
    if len(feeds) != 1 or len(feeds[0].users) != 1:
        return None
    conv = called.get(feeds[0])
    if not isinstance(conv, CONVS) or conv.groups != 1 or list(called.values()).count(conv) > 1:
        return None
    return None if weights_in_doubt(model, conv, read_directly(model)) else conv


def weights_in_doubt(
    model: nn.Module, module: nn.Module, direct: Collection[str] = ()
) -> str | None:
    """Why the weights of a module cannot be changed for it alone; None where they can.

    Args:
        model: what has the module.
        module: whose weights are to change.
        direct: names of weights that the forward code reads by itself (see `read_directly`).
    """
    if parametrize.is_parametrized(module) or has_pre_hooks(module):
        return "has weights that are computed, as by weight norm or pruning"
    if not runs_class_forward(module):
        return "has hooks, or a forward of its own"
    own = {_memory(value) for value in (*module.parameters(), *module.buffers())}
    inside = set(module.modules())
    for other in model.modules():
        if other in inside:
            continue
        values = (*other.parameters(recurse=False), *other.buffers(recurse=False))
        if own & {_memory(value) for value in values}:
            return "shares its weights with another module"
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers())
    if any(name in direct and _memory(value) in own for name, value in named):
        return "has weights that the forward code also reads by itself"
    return None


def read_directly(model: nn.Module) -> frozenset[str]:
    """The weights that the forward code reads by itself, by name, where it can be followed."""
    try:
        graph = _Tracer().trace(model)
    except Exception:  # whatever the model's code does with a stand-in for a tensor
        return frozenset()
    return frozenset(str(node.target) for node in graph.nodes if node.op == "get_attr")


def check_runs_once(model: nn.Module, layer: nn.Module, name: str) -> None:
    """Nothing, where the layer runs once under each of its names, as far as that can be seen.

    Raises:
        DissectError: a module in its place would act in other runs, too.
    """
    tracer = _EndTracer(layer)
    try:
        tracer.trace(model)
    except Exception:  # whatever the model's code does with a stand-in for a tensor
        if "#" not in name:
            return
    runs, names = len(tracer.ends), list(named_modules(model).values()).count(layer)
    if "#" in name or runs > names:
        raise DissectError(
            f"an edit of {name!r} cannot be written into the network: its layer runs "
            f"{max(runs, 2)} times in a pass, and the edit is of one run; use 'applied'"
        )


def _memory(value: Tensor) -> int:
    """What tells tensors apart that do not share their memory."""
    return value.untyped_storage().data_ptr() or id(value)


def _traced_back(model: nn.Module, name: str, layer: nn.Module, keep: Kept) -> nn.Module:
    """Follow the layer's output back, in the layer itself, then in each module around it."""
    parts = name.split(".") if name else []
    depths = range(len(parts), -1, -1)
    if fx.Tracer().is_leaf_module(layer, name):
        if not isinstance(
            layer, KEEP_POSITIVE_MODULES if keep == "positive" else KEEP_ZERO_MODULES
        ):
            raise _inexact(name, f"{type(layer).__name__} comes after any norm or convolution")
        _check_plain(layer, name)
        depths = depths[1:]
    for depth in depths:
        scope = resolve_layer(model, ".".join(parts[:depth]))
        graph = _graph(scope, layer, name)
        modules = dict(scope.named_modules(remove_duplicate=False))
        called = {
            node: modules[str(node.target)] for node in graph.nodes if node.op == "call_module"
        }
        if scope is layer:
            ends = [node for node in graph.nodes if node.op == "output"]
        else:
            ends = [node for node, module in called.items() if module is layer]
        if len(ends) != 1:
            raise _inexact(name, f"it runs {len(ends)} times in the forward pass")
        maker = _maker_before(ends[0], called, name, keep)
        if maker is not None:
            return maker
    raise _inexact(name, "no norm or convolution comes before it")


def _check_plain(module: nn.Module, name: str) -> None:
    if not runs_class_forward(module):
        raise _inexact(name, f"a {type(module).__name__} before its end has hooks")


def _maker_before(
    node: fx.Node, called: dict[fx.Node, nn.Module], name: str, keep: Kept
) -> nn.Module | None:
    """The module that feeds the node through what keeps zero; None where the input does."""
    while True:
        before = node.all_input_nodes
        if len(before) != 1:
            raise _inexact(name, f"it is made of {len(before)} values")
        (node,) = before
        if len(node.users) != 1:
            raise _inexact(name, "what makes it is used in another place, too")
        if node.op == "placeholder":
            return None
        module = called.get(node)
        if isinstance(module, MAKERS):
            if list(called.values()).count(module) > 1:
                raise _inexact(name, f"its {type(module).__name__} runs more than once")
            return module
        if not keeps(node, module, keep):
            what = node.target if module is None else type(module).__name__
            raise _inexact(name, f"{getattr(what, '__name__', what)} comes after what makes it")
        if module is not None:
            _check_plain(module, name)


def keeps(node: fx.Node, module: nn.Module | None, keep: Kept = "zero") -> bool:
    """Whether a step of a graph gives 0 for 0 (and what is above 0 for itself), cell by cell."""
    positive = keep == "positive"
    if module is not None:
        return isinstance(module, KEEP_POSITIVE_MODULES if positive else KEEP_ZERO_MODULES)
    if node.op == "call_function":
        return node.target in (KEEP_POSITIVE_FUNCTIONS if positive else KEEP_ZERO_FUNCTIONS)
    methods = KEEP_POSITIVE_METHODS if positive else KEEP_ZERO_METHODS
    return node.op == "call_method" and node.target in methods


def traced_end(
    model: nn.Module, layer: nn.Module, refuse: Callable[[str], DissectError]
) -> tuple[fx.Graph, fx.Node]:
    """The model's graph, and its node that gives what the layer gives.

    Args:
        model: what has the layer.
        layer: whose end is looked for.
        refuse: makes the error of what stands in the way.

    Raises:
        DissectError: as `refuse` makes it, where the forward code cannot be followed or the layer
            does not run just once.
    """
    tracer = _EndTracer(layer)
    try:
        graph = tracer.trace(model)
    except Exception as error:
        # Whatever the model's code does with a stand-in for a tensor may fail in any way.
        raise refuse(f"the forward code of {type(model).__name__} cannot be followed") from error
    if len(tracer.ends) != 1 or not isinstance(tracer.ends[0], fx.Proxy):
        raise refuse(f"the layer runs {len(tracer.ends)} times, or gives no tensor")
    return graph, tracer.ends[0].node


class _Tracer(fx.Tracer):
    """Looks into everything but torch's own modules and edits."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, GatedEdit) or super().is_leaf_module(m, module_qualified_name)


class _EndTracer(_Tracer):
    """Notes where a layer ends."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.ends: list[Any] = []

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        if m is self.layer:
            self.ends.append(output)
        return output


class _ScopeTracer(_Tracer):
    """Does not look into a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m is self.layer or super().is_leaf_module(m, module_qualified_name)


def _graph(scope: nn.Module, layer: nn.Module, name: str) -> fx.Graph:
    try:
        return _ScopeTracer(layer).trace(scope)
    except Exception as error:
        # Whatever the model's code does with a stand-in for a tensor may fail in any way.
        raise _inexact(
            name, f"the forward code of {type(scope).__name__} cannot be followed"
        ) from error


def _inexact(name: str, reason: str) -> DissectError:
    return DissectError(
        f"an edit of {name!r} cannot be written into the weights exactly: {reason}; use 'ablated'"
    )
