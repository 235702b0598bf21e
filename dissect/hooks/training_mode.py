"""Models in training mode, in which a sample depends on chance, on others or on the pass before."""

import sys
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dissect._utils.errors import DissectError
from dissect.hooks.modules import BatchNorm, Dropout, InstanceNorm, named_modules

__all__ = ["Examined", "SteadyPass", "TorchDispatchMode", "examine", "running_module"]

# In training mode the first makes a sample depend on its batch-mates, the others on chance.
_UNSTEADY_IN_TRAINING = BatchNorm | Dropout | nn.RReLU
# These drop units where their argument `dropout` says so.
_WITH_DROPOUT = (nn.RNNBase, nn.MultiheadAttention)
# These do the same in either mode, and call no other module.
_PLAIN_LAYERS = frozenset(
    {nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid}
)
# Arguments of operations that say that chance has no part in them.
_STEADY = {"p": 0, "dropout": 0, "dropout_p": 0, "train": False, "training": False}


class Examined(NamedTuple):
    """What a look at a model has shown.

    Attributes:
        modules: its modules, each once, itself first.
        shared: whether any is registered twice.
        in_training: whether any that may do something else for it is in training mode, so that a
            pass is to be watched (see `SteadyPass`).
    """

    modules: list[nn.Module]
    shared: bool
    in_training: bool


def examine(model: nn.Module, *, allow_training: bool) -> Examined:
    """The model's modules, after a look whether it can be studied as it is.

    Raises:
        DissectError: batch norm, dropout or spectral norm is in training mode, and that is not
            allowed.
    """
    # `model.modules()` takes several times as long, which shows beside a small model's pass.
    found, seen, shared, in_training = [model], {model}, False, False
    for module in found:
        # Looking into them, too, would read twice as much memory.
        if type(module) in _PLAIN_LAYERS and not module._forward_pre_hooks:
            continue
        if module.training and not allow_training:
            in_training = True
            if _is_unsteady_in_training(module):
                raise _refusal(model, module, "is in training mode")
        for child in module._modules.values():
            if child in seen:
                shared = True
            elif child is not None:
                seen.add(child)
                found.append(child)
    return Examined(found, shared, in_training)


def _is_unsteady_in_training(module: nn.Module) -> bool:
    if isinstance(module, _WITH_DROPOUT):
        return bool(module.dropout)
    if isinstance(module, InstanceNorm):
        return module.track_running_stats
    return isinstance(module, _UNSTEADY_IN_TRAINING) or _has_spectral_norm(module)


def _has_spectral_norm(module: nn.Module) -> bool:
    """Whether a step of power iteration changes weights in every pass."""
    kinds = [type(module), *map(type, module._forward_pre_hooks.values())]
    return any(kind.__name__.lstrip("_") == "SpectralNorm" for kind in kinds)


def _refusal(model: nn.Module, module: nn.Module | None, what: str) -> DissectError:
    names = (name for name, other in named_modules(model).items() if other is module)
    return DissectError(
        f"{next(names, '') or 'the model'} ({type(module or model).__name__}) {what}, where a "
        "sample's activations depend on its batch-mates, on chance or on passes before: call "
        "model.eval() first, or pass allow_training=True"
    )


class SteadyPass(TorchDispatchMode):
    """A pass of a model in training mode, in which no module in that mode does what only it allows.

    Dropout that is called as a function, paths that are dropped at random and statistics of a
    module's own show only as they run.

    Raises:
        DissectError: in the pass, where a module in training mode draws random numbers, or writes
            into a buffer or a weight of the model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model = model
        self._held: set[int | None] | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        what = ""
        if torch.Tag.nondeterministic_seeded in func.tags:
            accepted = func._schema.arguments
            given = {one.name: one.default_value for one in accepted if one.has_default_value()}
            given |= {one.name: value for one, value in zip(accepted, args, strict=False)}
            given |= kwargs
            if not any(name in given and given[name] == value for name, value in _STEADY.items()):
                what = "draws random numbers in training mode"
        elif func._schema.is_mutable and any(map(self._is_held, (*args[:1], kwargs.get("out")))):
            what = "writes into a buffer in training mode"
        if what:
            module = running_module()
            if module is None or module.training:
                raise _refusal(self._model, module, what)
        return func(*args, **kwargs)

    def _is_held(self, tensor: Any) -> bool:
        """Whether the tensor's memory is that of a weight or a buffer of the model."""
        if not isinstance(tensor, Tensor):
            return False
        if self._held is None:
            self._held = set(map(_memory, (*self._model.parameters(), *self._model.buffers())))
        return _memory(tensor) in self._held - {None}


def _memory(tensor: Tensor) -> int | None:
    """The address of the tensor's memory; None where it has none."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (NotImplementedError, RuntimeError):
        return None


def running_module() -> nn.Module | None:
    """The innermost module whose forward is under way; None outside of any."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_locals.get("self")
        if frame.f_code.co_name == "forward" and isinstance(module, nn.Module):
            return module
        frame = frame.f_back  # type: ignore[assignment]
    return None
