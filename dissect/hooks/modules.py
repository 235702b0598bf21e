"""The layers of any `nn.Module` by name, and whether they can be studied as they stand."""

import difflib
import sys
from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from types import MethodType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.jit import ScriptModule

from dissect._utils.errors import DissectError

__all__ = [
    "BatchNorm",
    "BlockHook",
    "Dropout",
    "InstanceNorm",
    "check_same_shape",
    "has_output_hooks",
    "has_pre_hooks",
    "is_compiled",
    "is_unshared",
    "layer_names",
    "named_modules",
    "no_tensor",
    "not_run",
    "plain_copy",
    "resolve_layer",
    "resolve_runs",
    "runs_class_forward",
    "unwrap_compiled",
]

_Model = TypeVar("_Model", bound=nn.Module)

# Torch's own base classes of these are private.
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
InstanceNorm = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
Dropout = (
    nn.Dropout
    | nn.Dropout1d
    | nn.Dropout2d
    | nn.Dropout3d
    | nn.AlphaDropout
    | nn.FeatureAlphaDropout
)
# What torch.compile calls the module that it wraps, and the function that it compiles.
_WRAPPED = "_orig_mod"
_UNCOMPILED = "_torchdynamo_orig_callable"


class BlockHook:
    """The base of what a block registers, by which it differs from the hooks of others."""

    __slots__ = ()


def layer_names(model: nn.Module) -> list[str]:
    """The name of every layer of the model, in order of registration.

    A shared module is listed under each of its names. Wrappers that `torch.compile` puts around
    modules are left out: a layer is called the same, compiled or not.
    """
    return [name for name in named_modules(model) if name]


def resolve_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer of that name; the empty name is the model itself.

    A name may end in the number of a run (see `resolve_runs`), which does not change the layer.

    Raises:
        DissectError: there is no such layer; the message lists names that are near.
    """
    if not isinstance(name, str):
        example = next(iter(layer_names(model)), "")
        raise DissectError(
            f"a layer is given by its name, such as {example!r}, not as {type(name).__name__}"
        )
    # The usual case in one look: beside the pass of a small model, more of them tell.
    children = model._modules
    if type(children) is dict and _WRAPPED not in children:
        child = children.get(name)
        if child is not None and _WRAPPED not in child._modules:
            return child
    module = unwrap_compiled(model)
    for part in _run_of(name)[0].split(".") if name else ():
        if part == _WRAPPED:
            continue
        children = module._modules
        if not isinstance(children, dict):
            raise DissectError(
                f"layer {name!r} is out of reach inside TorchScript: "
                "load the model as a plain module"
            )
        child = children.get(part)
        if child is None:
            raise DissectError(_no_such_layer(model, name))
        module = unwrap_compiled(child)
    return module


def resolve_runs(
    model: nn.Module, names: Iterable[str], *, shared: bool
) -> dict[nn.Module, dict[str, int]]:
    """The layers of those names, and which run of the layer in a forward pass each name means.

    A module may run several times in a pass, as one `nn.ReLU` of a whole network does. `relu#2` is
    its second run. Without a number, a name means the first run; of a module that is registered
    under several names, the k-th name means the k-th run. Everything that takes a name goes by
    this: records, thresholds, counts, edits.

    Args:
        model: what has the layers.
        names: of layers.
        shared: whether any module of the model is registered under several names.

    Raises:
        DissectError: no such layer, or a number that is no run.
    """
    found: dict[nn.Module, dict[str, int]] = {}
    for name in names:
        layer = resolve_layer(model, name)
        plain, run = _run_of(name)
        if run is None:
            run = 1
            if shared:
                alike = [other for other, one in named_modules(model).items() if one is layer]
                run = alike.index(plain) + 1 if plain in alike else 1
        found.setdefault(layer, {})[name] = run
    return found


def _run_of(name: str) -> tuple[str, int | None]:
    """A layer's name without the number of its run, and that number."""
    plain, mark, number = name.rpartition("#")
    if not mark:
        return name, None
    if not (number.isascii() and number.isdecimal()) or not 1 <= int(number[:9]) == int(number):
        raise DissectError(
            f"{name!r} names no run of a layer: {plain or 'layer'}#2 is the second run in a pass"
        )
    return plain, int(number)


def _no_such_layer(model: nn.Module, name: str) -> str:
    known, name = layer_names(model), _run_of(name)[0]
    near = difflib.get_close_matches(name, known, n=3)
    near += [other for other in known if name.lower() in other.lower()]
    near = list(dict.fromkeys(near))[:4]
    outermost = [other for other in known if "." not in other][:8]
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    elif known:
        # Of a wrapper around one network, the layers inside.
        named = outermost if len(outermost) > 2 else known[:8]
        hint = f"its {len(known)} layers include {', '.join(named)}"
    else:
        hint = "it has none"
    return f"{type(unwrap_compiled(model)).__name__} has no layer {name!r}: {hint}"


def named_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by name, a shared one under each of its names, without `torch.compile`'s wrappers."""
    found: dict[str, nn.Module] = {}
    ahead: list[tuple[str, nn.Module, tuple[nn.Module, ...]]] = [("", model, ())]
    while ahead:
        name, module, above = ahead.pop()
        found[name] = module = unwrap_compiled(module)
        if isinstance(module, ScriptModule):
            continue
        above = (*above, module)
        prefix = f"{name}." if name else ""
        children = [
            (prefix + key, child, above)
            for key, child in module._modules.items()
            if child is not None and child not in above
        ]
        ahead += reversed(children)
    return found


def is_compiled(*modules: nn.Module) -> bool:
    """Whether calls of any of the modules run code of `torch.compile`.

    Torch has no public function for that.
    """
    for module in modules:
        own = module.__dict__
        if (
            own.get("_compiled_call_impl") is not None
            or _WRAPPED in module._modules
            or ("forward" in own and hasattr(own["forward"], _UNCOMPILED))
        ):
            return True
    # Many modules are of few classes.
    return any(
        hasattr(getattr(kind, "forward", None), _UNCOMPILED) for kind in set(map(type, modules))
    )


def runs_class_forward(module: nn.Module) -> bool:
    """Whether a call of the module runs the `forward` of its class and nothing else."""
    return (
        not is_compiled(module)
        and "forward" not in module.__dict__
        and not module._forward_hooks
        and not module._forward_pre_hooks
    )


def has_output_hooks(module: nn.Module) -> bool:
    """Whether something runs after the module's `forward`."""
    return bool(module._forward_hooks)


def has_pre_hooks(module: nn.Module) -> bool:
    """Whether something runs before the module's `forward`, such as torch's weight norm."""
    return bool(module._forward_pre_hooks)


def unwrap_compiled(module: nn.Module) -> nn.Module:
    """The module inside the wrappers of `torch.compile`."""
    while _WRAPPED in module._modules:
        module = module._modules[_WRAPPED]  # type: ignore[assignment]
    return module


def plain_copy(model: _Model) -> _Model:
    """A deep copy, uncompiled and without the hooks of any open `record` or `edit`.

    Hooks that others registered are copied with the model.

    Raises:
        DissectError: TorchScript, whose code cannot be changed.
    """
    if any(isinstance(module, ScriptModule) for module in model.modules()):
        raise DissectError(
            "the model is TorchScript, or has a part that is, whose code cannot be changed: "
            "load it as a plain module"
        )
    model = cast(_Model, unwrap_compiled(model))
    # Weights that are computed from others, as by the older weight norm, are computed anew.
    computed = (
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    )
    twin = deepcopy(model, {id(value): value.detach().clone() for value in computed})
    for module in list(twin.modules()):
        children = module._modules.items()
        module._modules.update(
            {name: unwrap_compiled(child) for name, child in children if child is not None}
        )
        _uncompile_forward(module)
    return twin


def _uncompile_forward(module: nn.Module) -> None:
    own, of_class = module.__dict__.get("forward"), getattr(type(module), "forward", None)
    forward = own or of_class
    forward = getattr(forward, _UNCOMPILED, forward)
    forward = getattr(forward, "__func__", forward)
    if own is not None and forward is of_class:
        # Compiled in place.
        del module.__dict__["forward"]
    elif hasattr(own or of_class, _UNCOMPILED):
        module.__dict__["forward"] = MethodType(forward, module)  # type: ignore[arg-type]


def is_unshared(output: object, references: int) -> bool:
    """Whether nothing else holds the memory of a layer's output, so that it may be kept as it is.

    False may also mean that it cannot be determined.

    Args:
        output: what a forward hook was given.
        references: `sys.getrefcount(output)` in the hook.
    """
    if type(output) is not Tensor or references > _references_in_hook():
        return False
    try:
        storage = output.untyped_storage()
        # Two: the tensor, and `storage` itself.
        alone = torch._C._storage_Use_Count(storage._cdata) == 2
        return alone and storage.nbytes() == output.nbytes
    except (NotImplementedError, RuntimeError):
        # Sparse and other tensors that have no memory of this kind.
        return False


@cache
def _references_in_hook() -> int:
    """How many references a hook finds to an output that its layer does not keep."""
    counts: list[int] = []

    class Fresh(nn.Module):
        def forward(self) -> Tensor:
            return torch.empty(0)

    class Hook:
        def __call__(self, layer: nn.Module, args: Any, output: Any) -> None:
            counts.append(sys.getrefcount(output))

    layer = Fresh()
    layer.register_forward_hook(Hook())
    layer()
    return counts[0]


def no_tensor(name: str, layer: nn.Module, output: object) -> str:
    """What to do where a layer gives no tensor."""
    inside = [f"{name}.{child}".lstrip(".") for child in layer_names(layer)]
    where = f"a layer inside it, such as {inside[0]!r}" if inside else "the layer that feeds it"
    return f"layer {name!r} gives {type(output).__name__}, without a tensor: name {where}"


def check_same_shape(name: str, before: Tensor, after: Any) -> None:
    """Check that what an edit of a layer returned fits where its activation was.

    Raises:
        DissectError: no tensor, or another shape, dtype or device.
    """
    if not isinstance(after, Tensor):
        raise DissectError(
            f"the edit of {name!r} returned {type(after).__name__}: return the new activation"
        )
    was, now = (
        f"{t.dtype} {tuple(t.shape)} on {t.device}".removeprefix("torch.") for t in (before, after)
    )
    if now != was:
        raise DissectError(f"the edit of {name!r} returned {now}: it must return {was}")


def not_run(name: str) -> str:
    """What to say where a layer did not run."""
    if _run_of(name)[1] is not None:
        return f"{name!r} did not run in the block: its layer runs less often in a pass"
    return (
        f"layer {name!r} did not run in the block; was the model called there, and not in another "
        "thread, does its forward pass call this module, and did no other recording stop the pass "
        "before it?"
    )
