"""Attribution of one unit at one place, through captum; the rule at LeakyReLU."""

import copy
import warnings

import pytest
import torch
from helpers.attribution import AT, IMAGES, ThreeUnits, small
from torch import nn
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


class ByHand(torch.autograd.Function):
    """The rules as their definitions say."""

    @staticmethod
    def forward(ctx, x, slope, rule):
        ctx.save_for_backward(x)
        ctx.slope, ctx.rule = slope, rule
        return torch.where(x > 0, x, slope * x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        kept = g if ctx.rule == "deconvolution" else ctx.slope * g
        if ctx.rule == "strict":
            kept = torch.zeros_like(g)
        return torch.where(g > 0, torch.where(x > 0, g, kept), torch.zeros_like(g)), None, None


class Rectified(nn.Module):
    """Two rectifiers, or one that runs twice, in parts that may be checkpointed."""

    def __init__(self, slope, inplace, reused, checkpointed):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 2, 1)
        acts = [nn.LeakyReLU(slope, inplace) if slope else nn.ReLU(inplace) for _ in range(2)]
        self.acts = nn.ModuleList(acts[:1] * 2 if reused else acts)
        self.checkpointed = checkpointed

    def forward(self, x):
        def both(x):
            return self.acts[1](self.b(self.acts[0](self.a(x))))

        if self.checkpointed == "together":
            return self.c(checkpoint(both, x, use_reentrant=False))
        if self.checkpointed == "each":
            x = checkpoint(lambda x: self.acts[0](self.a(x)), x, use_reentrant=False)
            return self.c(checkpoint(lambda x: self.acts[1](self.b(x)), x, use_reentrant=False))
        return self.c(both(x))


@pytest.mark.parametrize("slope", [0, 0.2, -0.3, -1.5])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("checkpointed", [None, "together", "each"])
def test_the_rules_are_those_written_by_hand(slope, inplace, reused, checkpointed):
    torch.manual_seed(0)
    model, x = Rectified(slope, inplace, reused, checkpointed).eval(), torch.randn(3, 1, 7, 7)
    for rule in ("strict", "leaky", "deconvolution"):
        given = x.clone().requires_grad_()
        first = ByHand.apply(model.a(given), slope, rule)
        unit = model.c(ByHand.apply(model.b(first), slope, rule))[:, 1, 1, 2]
        (expected,) = torch.autograd.grad(unit.sum(), given)
        if rule == "deconvolution":
            found = deconvolution(model, x, "c", 1, (1, 2))
        else:
            found = guided_backprop(model, x, "c", 1, (1, 2), rule=rule)
        torch.testing.assert_close(found, expected)


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


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("NeuronGuidedBackprop", guided_backprop),
        ("NeuronDeconvolution", deconvolution),
        ("NeuronGradient", lambda *target: saliency(*target, absolute=False)),
        ("NeuronIntegratedGradients", integrated_gradients),
    ],
)
def test_at_a_unit_of_a_layer_it_is_captums_neuron_class_bit_for_bit(name, method):
    import captum.attr

    model = Relus("plain").eval()
    images = torch.randn(6, 3, 8, 8)
    reference = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = getattr(captum.attr, name)(reference, reference.second)
        # Integrated gradients add up in an order that depends on the batch.
        batch = {"internal_batch_size": 100} if name == "NeuronIntegratedGradients" else {}
        expected = explainer.attribute(images.clone(), (1, 2, 3), **batch)
    assert expected.abs().sum() > 0
    assert torch.equal(method(model, images, "second", 1, (2, 3)), expected)


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
