"""Attribution of one unit at one place, through captum; the rule at LeakyReLU."""

import copy
import warnings
from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dissect
from dissect.attribution import (
    deconvolution,
    grad_cam,
    guided_backprop,
    integrated_gradients,
    occlusion,
    saliency,
)
from dissect.errors import DissectError


class ThreeUnits(nn.Module):
    """At (2, 1): three units at 2, 1 and -1 with slope 0.5, and gradients 3, -1 and 4 from above.

    The plain gradient is (3 * 1 + 4 * 0.5 * -1, -1 * 1 + 4 * 0.5 * 1) = (1, 1).
    """

    def __init__(self, activation=None):
        super().__init__()
        self.below = nn.Linear(2, 3, bias=False)
        self.activation = activation or nn.LeakyReLU(0.5)
        self.above = nn.Linear(3, 1, bias=False)
        with torch.no_grad():
            self.below.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]]))
            self.above.weight.copy_(torch.tensor([[3.0, -1.0, 4.0]]))

    def forward(self, x):
        return self.above(self.activation(self.below(x)))


AT = torch.tensor([[2.0, 1.0]])


@pytest.mark.parametrize("inplace", [False, True])
def test_numbers_worked_by_hand(inplace):
    model = ThreeUnits(nn.LeakyReLU(0.5, inplace=inplace)).eval()
    assert saliency(model, AT, "above", 0, absolute=False).tolist() == [[1.0, 1.0]]
    # Only the first unit has both an input and a gradient above 0.
    assert guided_backprop(model, AT, "above", 0).tolist() == [[3.0, 0.0]]
    # The third has a gradient above 0, and passes half of it.
    assert guided_backprop(model, AT, "above", 0, rule="leaky").tolist() == [[1.0, 2.0]]
    # What is positive of the gradient passes whole, whatever the input.
    assert deconvolution(model, AT, "above", 0).tolist() == [[-1.0, 4.0]]


def test_captum_alone_returns_the_plain_gradient_where_the_rule_gives_another():
    from captum.attr import GuidedBackprop

    model = ThreeUnits().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = GuidedBackprop(model).attribute(AT.clone(), target=0)
    assert torch.equal(alone, saliency(model, AT, "above", 0, absolute=False))
    assert not torch.equal(alone, guided_backprop(model, AT, "above", 0))


class Relus(nn.Module):
    """A network of ReLU modules in the ways that they are used."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first, self.second, self.third = (
            nn.Conv2d(channels, 4, 3, padding=1) for channels in (3, 4, 4)
        )
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=kind == "in place")
        self.other = self.relu if kind == "reused" else nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.out = nn.Linear(4 * 16, 5)

    def forward(self, x):
        x = self.relu(self.norm(self.first(x)))
        if self.kind == "residual":
            x = self.other(self.second(x) + x)
        elif self.kind == "residual, activation first":
            x = x - 0.3
            x = self.second(self.other(x)) + x
        else:
            x = self.other(self.second(x))
        return self.out(torch.tanh(self.third(self.pool(x))).flatten(1))


@pytest.mark.parametrize(
    "kind", ["plain", "in place", "reused", "residual", "residual, activation first"]
)
@pytest.mark.parametrize("method", ["GuidedBackprop", "Deconvolution"])
@pytest.mark.parametrize("rule", ["strict", "leaky"])
def test_on_relu_networks_it_is_captum_bit_for_bit(kind, method, rule):
    import captum.attr

    model = Relus(kind).eval()
    images = torch.randn(6, 3, 8, 8)
    units = [0, 1, 2, 3, 4, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = getattr(captum.attr, method)(copy.deepcopy(model))
        theirs = explainer.attribute(images.clone(), target=units)
    if method == "GuidedBackprop":
        ours = guided_backprop(model, images, "out", units, rule=rule)
    else:
        ours = deconvolution(model, images, "out", units)
    assert ours.abs().sum() > 0
    assert torch.equal(ours, theirs)


def test_deconvolution_keeps_the_branches_of_a_reused_activation_apart():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.activation = nn.LeakyReLU(0.2)

        def forward(self, x):
            low, high = 1 * x, 2 * x
            one, two = self.activation(low), self.activation(high)
            return 5 * one - 7 * two

    # The second branch brings -7, which does not pass; the first brings 5.
    gradient = deconvolution(Branches(), torch.ones(1, 1), "", 0)
    assert gradient.tolist() == [[5.0]]


@pytest.mark.parametrize("rule", ["strict", "leaky"])
def test_on_the_discriminator_it_is_not_the_plain_gradient(rule):
    model = dissect.load("bedrooms64", network="discriminator")
    images = torch.rand(3, 3, 64, 64) * 2 - 1
    guided = guided_backprop(model, images, "layer4x4", 0, rule=rule)
    plain = saliency(model, images, "layer4x4", 0, absolute=False)
    assert guided.shape == images.shape
    # As a share of its length, most of the gradient has changed.
    assert float((guided - plain).norm() / plain.norm()) > 0.5


def test_the_strict_rule_passes_what_a_relu_in_its_place_would():
    leaky = ThreeUnits(nn.LeakyReLU(0.5)).eval()
    rectified = ThreeUnits(nn.ReLU()).eval()
    assert torch.equal(
        guided_backprop(leaky, AT, "above", 0), guided_backprop(rectified, AT, "above", 0)
    )


def small():
    """A discriminator for images of 16 pixels, of one layer with two, batch norm and all."""
    torch.manual_seed(0)
    return dissect.Discriminator(width=2, image_size=16, kernel=4).eval()


IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
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


def test_it_works_where_gradients_are_off():
    model = small()
    expected = guided_backprop(model, IMAGES, "layer4x4", 0)
    with torch.inference_mode():
        assert torch.equal(guided_backprop(model, IMAGES.clone(), "layer4x4", 0), expected)
    with torch.no_grad():
        found = guided_backprop(model, IMAGES, "layer4x4", 0)
    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_a_compiled_model_gives_the_same():
    model = small()
    expected = guided_backprop(model, IMAGES, "layer4x4", 0)
    compiled = torch.compile(model, backend="eager")
    compiled(IMAGES)
    assert torch.equal(guided_backprop(compiled, IMAGES, "layer4x4", 0), expected)


def test_saliency_is_the_gradient():
    model = small()
    images = IMAGES.clone().requires_grad_()
    with dissect.record(model, "layer4x4", detach=False) as acts:
        model(images)
    (expected,) = torch.autograd.grad(acts["layer4x4"][:, 1, 2, 3].sum(), images)
    found = saliency(model, IMAGES, "layer4x4", 1, (2, 3), absolute=False)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(saliency(model, IMAGES, "layer4x4", 1, (2, 3)), expected.abs())


def test_integrated_gradients_sum_to_the_difference():
    model = small()
    start = torch.full((1, 3, 16, 16), 0.25)
    found = integrated_gradients(model, IMAGES, "layer4x4", 1, (2, 3), baseline=start, steps=200)
    values = dissect.activations(model, "layer4x4", torch.cat([IMAGES, start]))[:, 1, 2, 3]
    torch.testing.assert_close(found.sum((1, 2, 3)), values[:-1] - values[-1], rtol=2e-2, atol=1e-4)


def test_grad_cam_weighs_the_earlier_layer():
    model = small()
    found = grad_cam(model, IMAGES, "layer4x4", 1, (2, 3), at="layer8x8")
    with dissect.record(model, "layer8x8", "layer4x4", detach=False) as acts:
        model(IMAGES)
    earlier = acts["layer8x8"]
    (gradient,) = torch.autograd.grad(acts["layer4x4"][:, 1, 2, 3].sum(), earlier)
    weights = gradient.mean((2, 3), keepdim=True)
    torch.testing.assert_close(found, (weights * earlier).sum(1, keepdim=True).detach())
    with pytest.raises(DissectError, match="does not depend on layer 'layer4x4'"):
        grad_cam(model, IMAGES, "layer8x8", 1, at="layer4x4")
    with dissect.edit(model, {"layer8x8": torch.zeros_like}):
        with pytest.raises(DissectError, match="does not depend on the image"):
            saliency(model, IMAGES, "layer4x4", 1)


def test_occlusion_is_what_the_unit_loses():
    model = small()
    found = occlusion(model, IMAGES, "layer4x4", 1, (0, 0), window=8, stride=8, value=-1.0)
    covered = IMAGES.clone()
    covered[:, :, :8, :8] = -1.0
    loss = [dissect.activations(model, "layer4x4", x)[:, 1, 0, 0] for x in (IMAGES, covered)]
    expected = (loss[0] - loss[1])[:, None, None, None].expand(5, 3, 8, 8)
    torch.testing.assert_close(found[:, :, :8, :8], expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": "layer5x5"}, "has no layer 'layer5x5'"),
        ({"unit": 4}, "has 4 units; unit 4 is not among them"),
        ({"unit": -1}, "unit -1 is not among them"),
        ({"unit": 0.5}, "unit must be whole numbers"),
        ({"unit": [0, 1]}, "one for each of the 5 images"),
        ({"place": (0, 4)}, "grid of 4x4; place 4 is not among them"),
        ({"place": (0, 0, 0)}, "place must be 2 whole numbers"),
        ({"place": "top"}, "place must be whole numbers"),
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
