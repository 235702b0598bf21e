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
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from dissect._utils.errors import DissectError
from dissect.attribution.clipping import ClippingOperations
from dissect.hooks import record
from dissect.hooks.passes import is_backward

__all__ = ["GuidedRule", "LayerOutput", "checked_rule", "guided_network"]

GuidedRule = Literal["strict", "leaky"]
"""What passes a LeakyReLU backwards; see `dissect.attribution.guided_backprop`."""

_Forward = Callable[[Tensor], Tensor]


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
            DissectError: what `record` raises; with rectifiers, an activation that is none of them.
        """
        model = self._model[0]
        if not self._rectifiers:
            return _layer_output(model, self._layer, images)
        operations = ClippingOperations(model, images)
        for rectifier in self._rectifiers:
            rectifier.begin(operations)
        with operations:
            output = _layer_output(model, self._layer, images)
        _check_no_others(operations, model, self._layer)
        return output


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
    sequences = {
        module: _StandInSequence([_StandIn(module, rule) for _ in range(count)], layer)
        for module, count in runs.items()
    }
    with _forwards_replaced(sequences):
        network = LayerOutput(model, layer, tuple(sequences.values()))
        with torch.inference_mode(False), torch.enable_grad():
            output = network(_variable(image))
        if not torch.allclose(output, plain, equal_nan=True):
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

    def forward(self, input: Tensor, is_positive: Tensor | None = None) -> Tensor:
        """The activation of `input`, never in its place."""
        if is_positive is not None:
            return torch.where(is_positive, input, -self._slope * input)  # type: ignore[operator]
        if self._slope is None:
            return relu(input)
        output = leaky_relu(input, self._slope)
        return torch.where(input > 0, input, output.detach()) if self._strict else output

    def activate(self, input: Tensor, *, hooked: bool) -> Tensor:
        """The activation of `input`, through captum's hooks where `hooked`.

        Of a slope below 0, the leaky rule passes `slope * g`, which captum would set to 0. So the
        sign is turned outside of what captum hooks.
        """
        call = self if hooked else self.forward
        if self._strict or self._slope is None or self._slope >= 0:
            return call(input)
        is_positive = input > 0
        turned = torch.where(is_positive, input, -input)
        return call(turned, is_positive=is_positive)


class _StandInSequence:
    """A module's `forward` whose k-th call in a pass goes to the k-th stand-in.

    One stand-in for all calls would have captum's deconvolution mix up their gradients where the
    module is used on two branches.
    """

    def __init__(self, stand_ins: Sequence[_StandIn], layer: str) -> None:
        self.stand_ins = stand_ins
        self._layer = layer
        self._n_calls = 0
        self._operations: ClippingOperations | None = None

    def begin(self, operations: ClippingOperations) -> None:
        """Begin a pass, in which these operations are counted, but for those of stand-ins."""
        self._n_calls, self._operations = 0, operations

    def __call__(self, input: Tensor) -> Tensor:
        if is_backward():
            # Activation checkpointing computes what the graph needs again; the graph has its hooks.
            return self.stand_ins[0].activate(input, hooked=False)
        if self._n_calls == len(self.stand_ins):
            raise DissectError(
                f"which activations run before {self._layer!r} depends on the image: give images "
                "one at a time"
            )
        stand_in = self.stand_ins[self._n_calls]
        self._n_calls += 1
        with _paused(self._operations):
            # Without a graph there is nothing for captum to hook.
            hooked = input.requires_grad and torch.is_grad_enabled()
            return stand_in.activate(input, hooked=hooked)


@contextmanager
def _paused(operations: ClippingOperations | None) -> Iterator[None]:
    if operations is None:
        yield
        return
    operations.paused = True
    try:
        yield
    finally:
        operations.paused = False


def _rectifiers(model: nn.Module) -> dict[nn.Module, _Forward]:
    """The ReLUs and LeakyReLUs of the model that are no more than that, and their `forward`."""
    plain = (nn.ReLU.forward, nn.LeakyReLU.forward)
    return {
        module: module.forward
        for module in model.modules()
        if getattr(module.forward, "__func__", None) in plain
    }


@torch.inference_mode(False)
@torch.enable_grad()
def _survey(model: nn.Module, layer: str, image: Tensor) -> tuple[dict[nn.Module, int], Tensor]:
    """How often each rectifier runs before the layer, and what the layer gives.

    There is a graph, as for the attribution: without one torch fuses layers of a transformer.
    """
    image = _variable(image)
    operations = ClippingOperations(model, image)
    runs: Counter[nn.Module] = Counter()

    def counting(module: nn.Module, forward: _Forward) -> _Forward:
        def call(input: Tensor) -> Tensor:
            runs[module] += 1
            with _paused(operations):
                return forward(input)

        return call

    calls = {module: counting(module, forward) for module, forward in _rectifiers(model).items()}
    with _forwards_replaced(calls), operations:
        output = _layer_output(model, layer, image).detach()
    _check_no_others(operations, model, layer)
    if not runs:
        raise DissectError(
            f"no nn.ReLU or nn.LeakyReLU runs in {type(model).__name__} before {layer!r}: guided "
            "backpropagation would be the plain gradient, which saliency gives"
        )
    return dict(runs), output


def _check_no_others(operations: ClippingOperations, model: nn.Module, layer: str) -> None:
    if operations.found:
        raise DissectError(
            f"{type(model).__name__} computes {', '.join(operations.found)} before {layer!r} "
            "outside nn.ReLU and nn.LeakyReLU modules, where guided backpropagation would pass the "
            "plain gradient: make each activation such a module (inside a module of that kind, "
            "call none as a function), or use saliency"
        )


def _layer_output(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    with record(model, layer, stop=True, detach=False) as acts:
        model(images)
    return acts[layer]


def _variable(image: Tensor) -> Tensor:
    return image.detach().clone().requires_grad_()


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
