"""Operations that clip a gradient by the sign or the size of an activation, found as they run."""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from dissect.hooks.modules import named_modules
from dissect.hooks.training_mode import TorchDispatchMode, running_module

__all__ = ["ClippingOperations"]

# By the name in which all of torch's ways of calling an operation (modules, functions, methods,
# in place, TorchScript) end.
_CLIPPING = frozenset(
    {"relu", "leaky_relu", "threshold", "prelu", "_prelu_kernel", "rrelu_with_noise", "elu"}
    | {"rrelu_with_noise_functional", "celu", "selu", "gelu", "silu", "mish", "softplus"}
    | {"hardswish", "hardsigmoid", "hardtanh", "log_sigmoid_forward", "softshrink", "hardshrink"}
    | {"abs", "sign", "sgn", "signbit", "copysign", "heaviside"}
    | {"maximum", "minimum", "fmax", "fmin", "amax", "amin", "aminmax", "cummax", "cummin"}
    | {"sort", "topk", "kthvalue", "median"}
    | {"_transformer_encoder_layer_fwd"}
)
_BOUNDED = frozenset({"clamp", "clamp_min", "clamp_max"})
_COMPARISONS = frozenset({"gt", "ge", "lt", "le"})


class ClippingOperations(TorchDispatchMode):
    """Which operations on what depends on an image clip its gradient, and the modules they run in.

    An operation counts where it is an activation function, a maximum or minimum of two tensors or
    over an axis, a comparison, which a mask is made of, or a bound that is 0, is a tensor or is
    reached. Masks that do not depend on the image, and bounds that are far from every value, do
    not count.

    Attributes:
        found: the operations and where they run, as in `clamp in 'block.act' (Act)`.
        paused: whether nothing counts for now.
    """

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model = model
        self.found: dict[str, None] = {}
        self.paused = False
        # Tensors that depend on the image, also where a graph does not say so; of those that tanh
        # gave, what it was given.
        self._dependent: dict[int, Any] = {}
        self._before_tanh: dict[int, int] = {}
        self._mark(image)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        given = list(_tensors((args, kwargs or {})))
        if not any(self._depends(tensor) for tensor in given):
            return output
        name = func.overloadpacket.__name__.removesuffix("_")
        if (
            name == "sub"
            and len(given) == 2
            and self._before_tanh.get(id(given[1])) == id(given[0])
        ):
            name = "tanhshrink"
        if not self.paused and self._clips(name, func, args, kwargs or {}, output):
            self.found[f"{name} in {self._running_module()}"] = None
        for tensor in _tensors(output):
            self._mark(tensor)
        if name == "tanh":
            self._before_tanh[id(output)] = id(given[0])
        return output

    def _mark(self, tensor: Tensor) -> None:
        key = id(tensor)
        if key not in self._dependent:
            self._dependent[key] = weakref.ref(tensor, lambda _: self._forget(key))

    def _forget(self, key: int) -> None:
        self._dependent.pop(key, None)
        self._before_tanh.pop(key, None)

    def _depends(self, tensor: Tensor) -> bool:
        reference = self._dependent.get(id(tensor))
        return reference is not None and reference() is tensor

    def _clips(self, name: str, func: Any, args: Any, kwargs: Any, output: Any) -> bool:
        if name in _CLIPPING or name == "tanhshrink":
            return True
        if name in ("max", "min"):
            # Over an axis, which may be that of a stack; of a whole tensor it is one number.
            return "dim" in func._overloadname
        if name in _COMPARISONS:
            return bool(output.numel() > 1)
        if name not in _BOUNDED:
            return False
        names = (argument.name for argument in func._schema.arguments)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        low, high = given.get("min"), given.get("max")
        if any(isinstance(bound, Tensor) or bound == 0 for bound in (low, high)):
            return True
        return any(bound is not None and bool((output == bound).any()) for bound in (low, high))

    def _running_module(self) -> str:
        module = running_module() or self._model
        names = (name for name, one in named_modules(self._model).items() if one is module)
        name, kind = next(names, ""), type(module).__name__
        return f"{name!r} ({kind})" if name else kind


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for part in value:
            yield from _tensors(part)
