"""The layers of any `nn.Module` by name, and whether they can be studied as they stand."""

import difflib
import sys
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from dissect._utils.errors import DissectError

__all__ = [
    "Place",
    "can_be_compiled",
    "compiled_places",
    "layer_names",
    "named_modules",
    "not_one_tensor",
    "owns_memory",
    "refuse_change",
    "resolve_layer",
    "studied_modules",
    "unwrapped",
]

# In training mode the first makes a sample depend on its batch-mates, the others on chance.
_UNSTEADY_IN_TRAINING = (_BatchNorm, _DropoutNd, nn.RReLU)

# These do the same in either mode, and call no other module.
_PLAIN_LAYERS = frozenset(
    {nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid}
)

# What torch.compile calls the module that it wraps, and the function that it takes the place of.
_WRAPPED = "_orig_mod"
_PLAIN = "_torchdynamo_orig_callable"

# A module, the name of one of its attributes, and a value for that.
Place = tuple[nn.Module, str, Any]


def layer_names(model: nn.Module) -> list[str]:
    """The name of every layer of the model, in order of registration.

    A shared module is listed under each of its names. Wrappers that `torch.compile` puts around
    modules are left out: a layer is called the same, compiled or not.
    """
    return [name for name in named_modules(model) if name]


def resolve_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer of that name; the empty name is the model itself.

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
    module = unwrapped(model)
    for part in name.split(".") if name else ():
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
        module = unwrapped(child)
    return module


def _no_such_layer(model: nn.Module, name: str) -> str:
    known = layer_names(model)
    near = difflib.get_close_matches(name, known, n=3)
    near += [other for other in known if name.lower() in other.lower()]
    near = list(dict.fromkeys(near))[:4]
    outermost = [other for other in known if "." not in other][:8]
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    elif known:
        hint = f"its {len(known)} layers include {', '.join(outermost)}"
    else:
        hint = "it has none"
    return f"{type(unwrapped(model)).__name__} has no layer {name!r}: {hint}"


def named_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by name, a shared one under each of its names, without `torch.compile`'s wrappers."""
    found: dict[str, nn.Module] = {}
    ahead: list[tuple[str, nn.Module, tuple[nn.Module, ...]]] = [("", model, ())]
    while ahead:
        name, module, above = ahead.pop()
        found[name] = module = unwrapped(module)
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


def studied_modules(model: nn.Module, *, allow_training: bool) -> tuple[list[nn.Module], bool]:
    """The model's modules, each once, itself first; and whether any is registered twice.

    Raises:
        DissectError: batch norm or dropout is in training mode, and that is not allowed.
    """
    # Beside a small model's forward pass it tells that `model.modules()` takes many times as long.
    found, seen, shared = [model], {model}, False
    for module in found:
        # Looking into them, too, would read twice as much memory.
        if type(module) in _PLAIN_LAYERS:
            continue
        if module.training and not allow_training and isinstance(module, _UNSTEADY_IN_TRAINING):
            names = (name for name, other in named_modules(model).items() if other is module)
            raise DissectError(
                f"{next(names, '') or 'the model'} ({type(module).__name__}) is in training mode, "
                "where a sample's activations depend on its batch-mates or on chance: call "
                "model.eval() first, or pass allow_training=True"
            )
        for child in module._modules.values():
            if child in seen:
                shared = True
            elif child is not None:
                seen.add(child)
                found.append(child)
    return found, shared


def compiled_places(modules: Iterable[nn.Module], layers: Iterable[nn.Module]) -> list[Place]:
    """Where compiled code steps in, and the plain code that makes the layers' hooks seen.

    Compiled code pays no heed to hooks that were added after it was compiled.
    """
    places: list[Place] = []
    for module in modules:
        for name in ("_compiled_call_impl", "forward"):
            value = module.__dict__.get(name)
            if isinstance(value, FunctionType) and hasattr(value, _PLAIN):
                places.append((module, name, getattr(value, _PLAIN)))
        plain = getattr(_forward_of_class(module), _PLAIN, None)
        if plain is not None and "forward" not in module.__dict__:
            places.append((module, "forward", MethodType(plain, module)))
    for layer in layers:
        # The model may also run inside something compiled that cannot be seen from here. A
        # `forward` of its own is what makes dynamo look at a layer, and at its hooks, again.
        forward = _forward_of_class(layer)
        if forward and "forward" not in layer.__dict__ and not hasattr(forward, _PLAIN):
            places.append((layer, "forward", MethodType(forward, layer)))
    return places


def can_be_compiled() -> bool:
    """Whether anything may be compiled: not before dynamo is imported, which takes seconds."""
    return "torch._dynamo" in sys.modules


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside the wrappers of `torch.compile`."""
    while _WRAPPED in module._modules:
        module = module._modules[_WRAPPED]  # type: ignore[assignment]
    return module


def _forward_of_class(module: nn.Module) -> Callable[..., Any] | None:
    # A class of TorchScript has none.
    return getattr(type(module), "forward", None)


def owns_memory(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
) -> bool:
    """Whether the output is surely a tensor of its own: no weight, no view, nothing of the inputs.

    False may also mean that it cannot be told.
    """
    if type(output) is not Tensor or output._is_view():
        return False
    try:
        start = output.data_ptr()
        # In inference mode torch does not know what is a view.
        if output.is_inference() and output.untyped_storage().nbytes() != output.nbytes:
            return False
        others: Iterable[Any] = args
        if kwargs or layer._parameters or layer._buffers:
            own = (*layer._parameters.values(), *layer._buffers.values())
            others = (*args, *kwargs.values(), *own)
        for other in others:
            if isinstance(other, Tensor):
                ahead = start - other.data_ptr()
                # They overlap where one begins within the other.
                if ahead < other.nbytes if ahead >= 0 else -ahead < output.nbytes:
                    return False
            elif isinstance(other, list | tuple | dict):
                return False
    except (NotImplementedError, RuntimeError):
        # Sparse and other tensors that have no memory to compare.
        return False
    return True


def not_one_tensor(name: str, layer: nn.Module, output: object) -> str:
    """What to do where a layer does not give one tensor."""
    inside = [f"{name}.{child}".lstrip(".") for child in layer_names(layer)]
    where = f"a layer inside it, such as {inside[0]!r}" if inside else "the layer that feeds it"
    return f"layer {name!r} gives {type(output).__name__}, not one tensor: name {where}"


def refuse_change(name: str, before: Tensor, after: Any) -> None:
    """Nothing, where an edit of a layer gave what may stand in its activation's place.

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
