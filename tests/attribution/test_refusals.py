"""The model is left as it was, and what cannot be attributed is refused."""

import copy
from contextlib import suppress

import pytest
import torch
from helpers.attribution import AT, IMAGES, ThreeUnits, small
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import dissect
from dissect._utils.errors import DissectError
from dissect.attribution import (
    deconvolution,
    grad_cam,
    guided_backprop,
    integrated_gradients,
    occlusion,
    saliency,
)

METHODS = {
    "guided": guided_backprop,
    "deconvolution": deconvolution,
    "saliency": saliency,
    "integrated": lambda *given: integrated_gradients(*given, steps=3),
    "grad_cam": lambda *given: grad_cam(*given, at="layer8x8"),
    "occlusion": lambda *given: occlusion(*given, window=8, stride=8),
}


def state(model):
    """Everything of a model that a visitor could leave changed."""
    found = []
    for name, module in model.named_modules():
        hooks = {key: list(value.items()) for key, value in vars(module).items() if "hook" in key
                 and hasattr(value, "items")}  # fmt: skip
        found.append((name, type(module), module.training, set(vars(module)), hooks))
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        found.append((name, value.requires_grad, value.grad, value.detach().numpy().tobytes()))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method):
    model = small()
    model.layer8x8.activation.train()  # a mode that is not everyone's
    model.layer4x4.conv.weight.requires_grad_(False)
    seen = []
    model.layer8x8.activation.register_forward_hook(lambda *_: seen.append("after"))
    model.layer8x8.activation.register_forward_pre_hook(lambda *_: seen.append("before"))
    model.layer4x4.register_full_backward_hook(lambda *_: seen.append("backward"))
    before = state(model)
    METHODS[method](model, IMAGES, "layer4x4", 1)
    assert state(model) == before
    assert seen[:2] == ["before", "after"], "the user's own hooks run"
    assert not IMAGES.requires_grad
    assert IMAGES.grad is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("at", range(4))
def test_the_model_is_left_as_it_was_after_an_exception(method, error, at):
    model = small()
    left = iter(range(at, -1, -1))

    def fail(*_):
        if next(left, 1) == 0:
            raise error

    model.layer4x4.norm.register_forward_hook(fail)
    before = state(model)
    with suppress(error):
        METHODS[method](model, IMAGES, "layer4x4", 1)
    assert state(model) == before
    model.layer4x4.norm._forward_hooks.clear()
    METHODS[method](model, IMAGES, "layer4x4", 1)


def test_an_open_edit_keeps_its_effect():
    model = small()
    with dissect.edit(model, {"layer8x8": lambda activation: 0 * activation}):
        assert guided_backprop(model, IMAGES, "layer4x4", 0).abs().sum() == 0
    assert guided_backprop(model, IMAGES, "layer4x4", 0).abs().sum() > 0


def by_hand(x):
    return 0.6 * x + 0.4 * abs(x)


FUNCTIONS = {
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "relu": F.relu,
    "in place": lambda x: x.relu_(),
    "method": lambda x: x.relu(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0.0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "the authors' own": by_hand,
    "where": lambda x: torch.where(x > 0, x, 0.2 * x),
    "maximum": lambda x: torch.maximum(x, 0.2 * x),
    "mask": lambda x: x * (x > 0),
    "relu6": nn.ReLU6(),
    "prelu": nn.PReLU(),
    "elu": nn.ELU(),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "script": lambda x: torch.jit.script(nn.LeakyReLU(0.2))(x),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("among_modules", [False, True])
@pytest.mark.parametrize("method", [guided_backprop, deconvolution])
def test_a_network_on_which_it_would_have_no_effect_is_refused(name, among_modules, method):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.activation = nn.LeakyReLU(0.2) if among_modules else nn.Identity()
            self.last = nn.Conv2d(4, 2, 3)

        def forward(self, x):
            return self.last(FUNCTIONS[name](self.activation(self.conv(x))))

    model = Functional().eval()
    before = state(model)
    with pytest.raises(DissectError, match="outside nn.ReLU and nn.LeakyReLU modules") as raised:
        method(model, IMAGES, "last", 0)
    assert "\n" not in str(raised.value)
    assert state(model) == before
    assert saliency(model, IMAGES, "last", 0).shape == IMAGES.shape


def test_what_runs_after_the_layer_or_only_saturates_is_no_matter():
    class Smooth(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.activation = nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2)
            self.second = nn.Conv2d(4, 4, 3)

        def forward(self, x):
            x = F.normalize(self.activation(self.first(x)))
            x = self.second(torch.sigmoid(x).clamp(-1, 1) * x)
            return F.relu(x)

    assert guided_backprop(Smooth(), IMAGES, "second", 0).abs().sum() > 0


def test_without_an_activation_before_the_layer_it_is_refused():
    with pytest.raises(DissectError, match="no nn.ReLU or nn.LeakyReLU runs in Discriminator"):
        guided_backprop(small(), IMAGES, "layer8x8.conv", 0)


def test_an_activation_with_a_forward_of_its_own_is_refused():
    class Scaled(nn.LeakyReLU):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(DissectError, match="leaky_relu"):
        guided_backprop(ThreeUnits(Scaled(0.5)), AT, "above", 0)


def test_relying_on_an_effect_in_place_is_refused():
    class Careless(ThreeUnits):
        def forward(self, x):
            x = self.below(x)
            self.activation(x)
            return self.above(x)

    with pytest.raises(DissectError, match="writing in place"):
        guided_backprop(Careless(nn.LeakyReLU(0.5, inplace=True)), AT, "above", 0)


def test_a_network_whose_weights_cannot_be_copied():
    model = ThreeUnits().eval()
    nn.utils.spectral_norm(model.below)
    model(AT)
    with pytest.raises(RuntimeError):
        copy.deepcopy(model)
    assert guided_backprop(model, AT, "above", 0)[0, 1] == 0


def test_the_place_of_the_maximum_is_the_default():
    model = small()
    acts = dissect.activations(model, "layer4x4", IMAGES)[:, 2]
    places = [divmod(int(one.argmax()), 4) for one in acts]
    there = guided_backprop(model, IMAGES, "layer4x4", 2, places)
    assert torch.equal(guided_backprop(model, IMAGES, "layer4x4", 2), there)
    elsewhere = guided_backprop(model, IMAGES, "layer4x4", 2, ((places[0][0] + 2) % 4, 0))
    assert not torch.equal(elsewhere[0], there[0])


def test_each_image_has_its_own_unit_and_place_whatever_the_batch():
    model = small()
    units, places = [3, 0, 1, 2, 2], [(0, 1), (3, 3), (1, 2), (2, 0), (0, 0)]
    together = guided_backprop(model, IMAGES, "layer4x4", units, places, batch_size=2)
    for k in range(5):
        alone = guided_backprop(model, IMAGES[k : k + 1], "layer4x4", units[k], places[k])
        torch.testing.assert_close(together[k : k + 1], alone)
    as_tensors = torch.tensor(units), torch.tensor(places)
    assert torch.equal(
        guided_backprop(model, IMAGES, "layer4x4", *as_tensors, batch_size=2), together
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": "layer5x5"}, "has no layer 'layer5x5'"),
        ({"unit": 4}, "has 4 units; unit 4 is not among them"),
        ({"unit": -1}, "unit -1 is not among them"),
        ({"unit": 0.5}, "unit must be whole numbers"),
        ({"unit": [0, 1]}, "one for each of the 5 images"),
        ({"position": (0, 4)}, "grid of 4x4; position 4 is not among them"),
        ({"position": (0, 0, 0)}, "position must be 2 whole numbers"),
        ({"position": "top"}, "position must be whole numbers"),
        ({"rule": "loose"}, "rule 'loose' is not known: use strict or leaky"),
        ({"images": IMAGES[:0]}, "images must be at least one"),
        ({"images": (IMAGES * 100).to(torch.uint8)}, "as floats .* got uint8"),
        ({"batch_size": 0}, "a batch holds at least 1"),
    ],
)
def test_what_cannot_be_attributed(change, said):
    given = {"images": IMAGES, "layer": "layer4x4", "unit": 0, **change}
    with pytest.raises(DissectError, match=said) as raised:
        guided_backprop(small(), **given)
    assert "\n" not in str(raised.value)


def test_batch_norm_in_training_mode_is_refused():
    model = small().train()
    before = state(model)
    for method in METHODS.values():
        with pytest.raises(DissectError, match="training mode"):
            method(model, IMAGES, "layer4x4", 0)
    assert state(model) == before


ZERO = torch.zeros(())
CLIPPING = {
    "clamp, a tensor": lambda x: x.clamp(min=ZERO),
    "clamp from above": lambda x: x - x.clamp(max=0),
    "clamp from above, by name": lambda x: x - torch.clamp_max(x, 0),
    "clamp in a range": lambda x: x.clamp(-0.1, 0.1),
    "hardtanh": lambda x: F.hardtanh(10 * x),
    "relu6": F.relu6,
    "minimum": lambda x: -torch.minimum(-x, ZERO),
    "minimum, leaky": lambda x: -torch.minimum(-x, -0.2 * x),
    "maximum, turned": lambda x: torch.maximum(ZERO, x),
    "where": lambda x: torch.where(x > ZERO, x, ZERO),
    "where, a mask of integers": lambda x: torch.where(x.long() > -1, x, ZERO),
    "masked_fill": lambda x: x.masked_fill(x < ZERO, 0),
    "masked_fill in place": lambda x: x.clone().masked_fill_(x < 0, 0),
    "a mask": lambda x: x * (x > 0.01),
    "sign": lambda x: x * (x.sign() + 1) / 2,
    "heaviside": lambda x: x * torch.heaviside(x, ZERO),
    "amax over a stack": lambda x: torch.stack([x, torch.zeros_like(x)]).amax(0),
    "max over a stack": lambda x: torch.stack([x, torch.zeros_like(x)]).max(0).values,
    "sort of a stack": lambda x: torch.stack([x, torch.zeros_like(x)]).sort(0).values[1],
    "logsigmoid": F.logsigmoid,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "hardsigmoid": F.hardsigmoid,
    "threshold": lambda x: F.threshold(x, 0.1, 0.0),
    "tanhshrink": F.tanhshrink,
    "clamp at almost 0": lambda x: x.clamp(min=1e-6),
    "a mask without a graph": lambda x: x * (2 * x.detach() > 0.01),
    "a mask by its data": lambda x: x * (x.data > ZERO),
    "a mask written into": lambda x: x.clone().index_put((x < 0.01,), ZERO),
    "checkpointed": lambda x: checkpoint(F.relu, x, use_reentrant=False),
}


class Acts(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.a, self.relu = nn.Conv2d(1, 3, 3), nn.ReLU()
        self.b, self.c, self.act = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 2, 1), act

    def forward(self, x):
        return self.c(self.act(self.b(self.relu(self.a(x)))))


@pytest.mark.parametrize("name", CLIPPING)
@pytest.mark.parametrize("method", [guided_backprop, deconvolution])
def test_whatever_clips_a_gradient_is_refused(method, name):
    torch.manual_seed(0)
    with pytest.raises(DissectError, match=r"in Acts.*would pass the plain gradient"):
        method(Acts(CLIPPING[name]).eval(), torch.randn(2, 1, 6, 6), "c", 0)


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x.clamp(-256, 256),
        torch.tanh,
        torch.sigmoid,
        F.normalize,
        lambda x: x.masked_fill(torch.arange(2) > 0, 0.0),
        lambda x: torch.where(torch.ones(2) > 0, x, ZERO),
        lambda x: x / x.max(),
    ],
)
def test_what_is_smooth_or_limits_nothing_passes(act):
    torch.manual_seed(0)
    assert guided_backprop(Acts(act).eval(), torch.randn(2, 1, 6, 6), "c", 0).abs().sum() > 0


def test_a_transformer_layer_hides_no_activation():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), layer, nn.Linear(8, 2)).eval()
    with pytest.raises(DissectError, match=r"relu in '2' \(TransformerEncoderLayer\)"):
        guided_backprop(model, torch.randn(1, 5, 8), "3", 0, (1,))


class Refused(nn.Module):
    def __init__(self):
        super().__init__()
        self.act, self.part = nn.ReLU(), nn.Sequential(nn.Identity(), nn.Softshrink())

    def forward(self, x):
        return F.relu(self.part(self.act(x)))


def test_a_refusal_names_the_operation_and_its_module():
    words = r"softshrink in 'part.1' \(Softshrink\), relu in Refused before ''"
    with pytest.raises(DissectError, match=words):
        guided_backprop(Refused(), torch.randn(2, 3), "", 0)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("method", [guided_backprop, deconvolution, saliency, integrated_gradients])
def test_checkpointing_that_has_no_gradient_of_a_layer_is_named(method):
    model = Acts(lambda x: checkpoint(model.again, x, use_reentrant=True)).eval()
    model.again = nn.ReLU()
    with pytest.raises(DissectError, match="use_reentrant=True"):
        method(model, torch.randn(2, 1, 6, 6), "c", 0, (0, 0))
