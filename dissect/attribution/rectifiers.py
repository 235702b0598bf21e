"""Guided backpropagation's rule at ReLU and LeakyReLU, in a form that captum applies.

captum changes the gradient at `nn.ReLU` modules and nowhere else. On a network of LeakyReLUs, or
of activations called as functions, it warns as if it had worked and returns the plain gradient.
In a block, every ReLU and LeakyReLU of the model calls a stand-in as its `forward`, and captum
hooks the stand-ins, which are ReLUs to it. The model itself gets no hook, is
not copied (an open `edit` keeps its effect, and weights that cannot be copied do no harm), and is
as it was when the block ends, by an exception too.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu
from torch.utils._python_dispatch import TorchDispatchMode

from dissect._utils.errors import DissectError
from dissect.hooks import record

__all__ = ["GuidedRule", "LayerOutput", "checked_rule", "guided_network"]

GuidedRule = Literal["strict", "leaky"]
"""What passes a LeakyReLU backwards; see `dissect.attribution.guided_backprop`."""

_Forward = Callable[[Tensor], Tensor]

# Operations that rectify, by the name in which all of torch's ways of calling them (modules,
# functions, methods, TorchScript) end.
_RECTIFYING = frozenset(
    {"relu", "leaky_relu", "threshold", "prelu", "_prelu_kernel", "rrelu_with_noise", "elu"}
    | {"celu", "selu", "gelu", "silu", "mish", "softplus", "hardswish", "hardsigmoid", "abs"}
    | {"log_sigmoid_forward", "softshrink", "hardshrink", "heaviside", "sign", "sgn", "copysign"}
    | {"maximum", "fmax", "minimum", "fmin", "amax", "amin", "aminmax", "max", "min", "cummax"}
    | {"where", "masked_fill", "masked_scatter", "sort", "topk", "kthvalue", "median"}
    | {"_transformer_encoder_layer_fwd", "_native_multi_head_attention"}
)
# Operations that make a mask of floating-point numbers, as a handwritten x * (x > 0) does.
_MASKING = frozenset({"gt", "ge", "lt", "le", "eq", "ne"})
# Operations that limit values to a range, and pass what lies in it as it is.
_LIMITING = frozenset({"clamp", "clamp_min", "clamp_max", "hardtanh"})


def checked_rule(rule: str) -> GuidedRule:
    """The rule of that name.

    Raises:
        DissectError: there is none.
    """
    if rule not in get_args(GuidedRule):
        raise DissectError(f"rule {rule!r} is not known: use {' or '.join(get_args(GuidedRule))}")
    return rule  # type: ignore[return-value]


class LayerOutput(nn.Module):
    """Images (N, ...) to what a layer of the model gives for them, with its graph.

    The modules below it are the stand-ins and not those of the model, so that what walks through
    modules to hook them, as captum does, does not come to the model. It is a model and its layer
    at once to captum's `Neuron` classes, which then need no pass through what follows the layer.
    """

    def __init__(
        self, model: nn.Module, layer: str, rectifiers: Sequence["_StandInSequence"] = ()
    ) -> None:
        super().__init__()
        self._model = (model,)
        self._layer = layer
        self._rectifiers = tuple(rectifiers)
        self.stand_ins = nn.ModuleList(
            stand_in for sequence in rectifiers for stand_in in sequence.stand_ins
        )

    def forward(self, images: Tensor) -> Tensor:
        """The layer's output.

        Raises:
            DissectError: what `record` raises.
        """
        for rectifier in self._rectifiers:
            rectifier.n_calls, rectifier.in_pass = 0, True
        try:
            with record(self._model[0], self._layer, stop=True, detach=False) as acts:
                self._model[0](images)
        finally:
            for rectifier in self._rectifiers:
                rectifier.in_pass = False
        return acts[self._layer]


@contextmanager
def guided_network(
    model: nn.Module, layer: str, image: Tensor, rule: GuidedRule
) -> Iterator[LayerOutput]:
    """A block with a network in which captum's guided backpropagation keeps to `rule`.

    Args:
        model: in evaluation mode; until the block ends, only the network that it gives may call it.
        layer: the layer whose units are looked into.
        image: (1, ...), from which the rectifiers that run before that layer are determined.
        rule: what passes a LeakyReLU backwards.

    Raises:
        DissectError: an activation is none of the model's ReLU and LeakyReLU modules, there is
            none before the layer, or its effect in place is relied on.
    """
    runs, plain = _survey(model, layer, image)
    slopes = [module.negative_slope for module in runs if isinstance(module, nn.LeakyReLU)]
    if rule == "leaky" and min(slopes, default=0) < 0:
        raise DissectError(
            f"the leaky rule keeps what is positive of a gradient, and a slope of {min(slopes):g} "
            "turns its sign: use the strict rule"
        )
    sequences = {
        module: _StandInSequence([_StandIn(module, rule) for _ in range(count)], layer)
        for module, count in runs.items()
    }
    with _forwards_replaced(sequences):
        network = LayerOutput(model, layer, tuple(sequences.values()))
        with torch.no_grad():
            is_same = torch.allclose(network(image), plain, equal_nan=True)
        if not is_same:
            raise DissectError(
                f"before {layer!r}, {type(model).__name__} relies on an activation writing in "
                "place: let it use what the module returns, as in x = self.activation(x)"
            )
        yield network


class _StandIn(nn.ReLU):
    """Gives what a ReLU or LeakyReLU gives; under captum's hooks, its gradient keeps to a rule.

    captum's guided backpropagation sets to 0 what is negative of the gradient that this passes to
    its input. For a LeakyReLU that makes the leaky rule; the strict one needs the gradient to be
    that of a ReLU.
    """

    def __init__(self, module: nn.Module, rule: GuidedRule) -> None:
        super().__init__()
        self._slope = module.negative_slope if isinstance(module, nn.LeakyReLU) else None
        self._strict = rule == "strict"

    def forward(self, input: Tensor) -> Tensor:
        """The activation of `input`, never in its place."""
        if self._slope is None:
            return relu(input)
        output = leaky_relu(input, self._slope)
        return torch.where(input > 0, input, output.detach()) if self._strict else output


class _StandInSequence:
    """A module's `forward` whose k-th call in a pass goes to the k-th stand-in.

    One stand-in for all calls would have captum's deconvolution mix up their gradients where the
    module is used on two branches.
    """

    def __init__(self, stand_ins: Sequence[_StandIn], layer: str) -> None:
        self.stand_ins = stand_ins
        self._layer = layer
        self.n_calls = 0
        self.in_pass = False

    def __call__(self, input: Tensor) -> Tensor:
        if not self.in_pass:
            raise DissectError(
                f"an activation before {self._layer!r} runs once more in the backward pass: switch "
                "activation checkpointing off, or use saliency"
            )
        if self.n_calls == len(self.stand_ins):
            raise DissectError(
                f"which activations run before {self._layer!r} depends on the image: give images "
                "one at a time"
            )
        self.n_calls += 1
        output: Tensor = self.stand_ins[self.n_calls - 1](input)
        return output


class _OperationCounter(TorchDispatchMode):
    """Counts the operations outside the model's rectifiers that rectify."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()
        self.in_rectifier = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        name = name.removesuffix("_")
        first = args[0] if args and isinstance(args[0], Tensor) else None
        before = None
        if name in _LIMITING and first is not None:
            before = first.clone()  # the operation may work in place
        output = func(*args, **(kwargs or {}))
        if not self.in_rectifier and (
            name in _RECTIFYING
            or (name in _MASKING and first is not None and first.is_floating_point())
            or (before is not None and _limits(before, output, args[1:], kwargs))
        ):
            self.counts[name] += 1
        return output


def _limits(before: Tensor, after: Tensor, args: Any, kwargs: Any) -> bool:
    """Whether values are cut off at 0, at values that are computed, or in this pass."""
    bounds = (*args, *(kwargs or {}).values())
    numbers = all(bound is None or isinstance(bound, int | float) for bound in bounds)
    return not numbers or 0 in bounds or not torch.equal(before, after)


def _rectifiers(model: nn.Module) -> dict[nn.Module, _Forward]:
    """The ReLUs and LeakyReLUs of the model that are no more than that, and their `forward`."""
    plain = (nn.ReLU.forward, nn.LeakyReLU.forward)
    return {
        module: module.forward
        for module in model.modules()
        if getattr(module.forward, "__func__", None) in plain
    }


def _survey(model: nn.Module, layer: str, image: Tensor) -> tuple[dict[nn.Module, int], Tensor]:
    """How often each rectifier runs before the layer, and what the layer gives."""
    counter = _OperationCounter()
    runs: Counter[nn.Module] = Counter()

    def counting(module: nn.Module, forward: _Forward) -> _Forward:
        def call(input: Tensor) -> Tensor:
            runs[module] += 1
            counter.in_rectifier = True
            try:
                return forward(input)
            finally:
                counter.in_rectifier = False

        return call

    calls = {module: counting(module, forward) for module, forward in _rectifiers(model).items()}
    # With gradients, as later: without, transformer layers run in one piece that hides their ReLUs.
    given = image.detach().clone().requires_grad_(image.is_floating_point())
    with (
        torch.enable_grad(),
        _forwards_replaced(calls),
        record(model, layer, stop=True) as acts,
        counter,
    ):
        model(given)
    name = type(model).__name__
    if counter.counts:
        operations = ", ".join(counter.counts)
        raise DissectError(
            f"{name} computes {operations} before {layer!r} outside nn.ReLU and nn.LeakyReLU "
            "modules, where guided backpropagation would pass the plain gradient: make each "
            "activation such a module (inside a module of that kind, call none as a function), "
            "or use saliency"
        )
    if not runs:
        raise DissectError(
            f"no nn.ReLU or nn.LeakyReLU runs in {name} before {layer!r}: guided backpropagation "
            "would be the plain gradient, which saliency gives"
        )
    return dict(runs), acts[layer]


@contextmanager
def _forwards_replaced(forwards: Mapping[nn.Module, _Forward]) -> Iterator[None]:
    """A block in which these modules have other `forward` functions; their hooks run as before."""
    before = {module: module.__dict__.get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, former in before.items():
            if former is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = former
