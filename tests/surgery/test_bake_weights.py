"""Removal everywhere, written into batch norms."""

from typing import get_args

import pytest
import torch
from helpers.surgery import UNITS, Z, small_generator
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from dissect._utils.errors import DissectError
from dissect.models import GatedEdit
from dissect.surgery import ablated, bake, excise, graph
from dissect.units import Units


@pytest.fixture
def generator():
    return small_generator()


def test_a_baked_generator_is_bit_for_bit_the_ablated_one(generator):
    with ablated(generator, UNITS), torch.no_grad():
        wanted = generator(Z)
    edited = bake(generator, UNITS)
    with torch.no_grad():
        assert torch.equal(edited(Z), wanted)
        assert not torch.equal(generator(Z), wanted)
    assert not any(module._forward_hooks for module in edited.modules())


@pytest.mark.parametrize("layer", ["rgb", "layer8x8.conv"])
def test_a_layer_without_a_norm_is_baked_into_its_convolution(generator, layer):
    units = Units(layer, (0,), 3 if layer == "rgb" else 6)
    with ablated(generator, units), torch.no_grad():
        wanted = generator(Z)
    edited = bake(generator, units)
    with torch.no_grad():
        assert torch.equal(edited(Z), wanted)
    assert edited.state_dict().keys() == generator.state_dict().keys()


def lively(model):
    """The model in eval mode, with batch norms that shift and scale."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model.eval()


def flat(activation):
    """As the PyTorch tutorial writes a DCGAN: one Sequential, layers known by number."""
    main = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 4, bias=False),
        nn.BatchNorm2d(6),
        activation(),
        nn.ConvTranspose2d(6, 3, 4, 2, 1),
        nn.Tanh(),
    )
    return lively(nn.Sequential(main))


def in_place():
    return nn.ReLU(inplace=True)


class Functional(nn.Module):
    """A block whose modules are registered in another order than they run."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(6), nn.ConvTranspose2d(4, 6, 4)

    def forward(self, x):
        return F.leaky_relu(self.norm(self.conv(x)), 0.2)


def functional():
    return lively(nn.Sequential(Functional(), nn.Conv2d(6, 3, 3)))


BAKED = {
    "relu": (lambda: flat(nn.ReLU), "0.2"),
    "relu in place": (lambda: flat(in_place), "0.2"),
    "leaky relu": (lambda: flat(nn.LeakyReLU), "0.2"),
    "batch norm": (lambda: flat(nn.ReLU), "0.1"),
    "batch norm before in place": (lambda: flat(in_place), "0.1"),
    "functional": (functional, "0"),
    "functional, its norm": (functional, "0.norm"),
}


@pytest.mark.parametrize("case", BAKED)
def test_foreign_generators_are_baked_bit_for_bit(case):
    make, layer = BAKED[case]
    model, units, z = make(), Units(layer, (0, 5), 6), torch.randn(5, 4, 1, 1)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad(), ablated(model, units):
        wanted = model(z)
    edited = bake(model, units)
    with torch.no_grad():
        assert torch.equal(edited(z), wanted)
        assert not torch.equal(model(z), wanted)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    changed = [k for k, v in edited.state_dict().items() if not torch.equal(v, weights[k])]
    # The norm's, and the weights of the convolution before it, where that is certain.
    kinds = [name.rpartition(".")[2] for name in changed]
    assert kinds[-2:] == ["weight", "bias"]
    assert len({name.rpartition(".")[0] for name in changed}) <= 2


def test_baking_inside_an_ablation_leaves_no_hook_of_it(generator):
    with torch.no_grad(), ablated(generator, UNITS, strength=2):
        edited = bake(generator, UNITS)
        generator(Z)
    with torch.no_grad(), ablated(generator, UNITS):
        wanted = generator(Z)
    with torch.no_grad():
        assert torch.equal(edited(Z), wanted)
    assert not any(module._forward_hooks for module in edited.modules())


def test_a_compiled_generator_is_ablated_and_baked_as_a_plain_one(generator):
    with torch.no_grad(), ablated(generator, UNITS):
        wanted = generator(Z)
    generator.layer8x8 = torch.compile(generator.layer8x8, backend="eager")
    fast = torch.compile(generator, backend="eager")
    with torch.no_grad():
        fast(Z)
        with ablated(fast, UNITS):
            assert torch.equal(fast(Z), wanted)
        edited = bake(fast, UNITS)
        assert torch.equal(edited(Z), wanted)
    assert "layer8x8.norm.weight" in edited.state_dict()


class Residual(Functional):
    def forward(self, x):
        x = self.conv(x)
        return F.relu(self.norm(x) + x)


class Aside(Functional):
    def forward(self, x):
        x = self.norm(self.conv(x))
        self.level = x.mean()
        return F.relu(x)


class Slopes(Functional):
    def forward(self, x):
        x = self.conv(x)
        return F.leaky_relu(self.norm(x), x.mean())


class Asks(Functional):
    def forward(self, x):
        return F.relu(self.norm(self.conv(x))) if x.sum() > 0 else self.norm(self.conv(x))


class Norms(Functional):
    def forward(self, x):
        return F.relu(self.norm(self.norm(self.conv(x))))


class Shifts(Functional):
    def forward(self, x):
        return F.relu(self.norm(self.conv(x)) + 1)


def plain_norm():
    return nn.Sequential(nn.ConvTranspose2d(4, 6, 4), nn.BatchNorm2d(6, affine=False), nn.ReLU())


def shared_norm():
    norm = nn.BatchNorm2d(6)
    first = nn.Sequential(nn.ConvTranspose2d(4, 6, 4), norm, nn.ReLU())
    return nn.Sequential(first, nn.Sequential(nn.Conv2d(6, 6, 1), norm, nn.ReLU()))


def grouped():
    return nn.Sequential(nn.ConvTranspose2d(4, 6, 4, groups=2), nn.ReLU())


def hooked():
    block = nn.Sequential(nn.ConvTranspose2d(4, 6, 4), nn.BatchNorm2d(6), nn.ReLU())
    block[2].register_forward_hook(lambda module, args, output: output + 1)
    return block


@pytest.mark.parametrize(
    ("model", "layer", "reason"),
    [
        (lambda: nn.Sequential(Residual()), "0", "add comes after what makes it"),
        (lambda: nn.Sequential(Aside()), "0", "used in another place"),
        (lambda: nn.Sequential(Slopes()), "0", "made of 2 values"),
        (lambda: nn.Sequential(Asks()), "0", "the forward code of Asks cannot be followed"),
        (lambda: nn.Sequential(Norms()), "0", "its BatchNorm2d runs more than once"),
        (lambda: nn.Sequential(Shifts()), "0", "add comes after what makes it"),
        (lambda: nn.Sequential(plain_norm()), "0", "no weight and bias"),
        (shared_norm, "0", "shared with another layer"),
        (lambda: nn.Sequential(nn.ReLU(), nn.Tanh()), "1", "no norm or convolution comes before"),
        (lambda: flat(nn.Sigmoid), "0.2", "Sigmoid comes after any norm or convolution"),
        (lambda: nn.Sequential(grouped()), "0", "in groups"),
        (lambda: nn.Sequential(hooked()), "0", "a ReLU before its end has hooks"),
    ],
)
def test_what_no_weights_hold_becomes_a_module(model, layer, reason):
    torch.manual_seed(0)
    model, units = lively(model()), Units(layer, (0, 5), 6)
    with pytest.raises(DissectError, match=reason) as caught:
        graph.maker_of(model, layer)
    assert "\n" not in str(caught.value)
    x = torch.randn(2, 6 if isinstance(model[0], nn.ReLU) else 4, 1, 1)
    with torch.no_grad():
        with ablated(model, units):
            wanted = model(x)
        edited = bake(model, units)
        assert torch.equal(edited(x), wanted)
    assert any(isinstance(module, GatedEdit) for module in edited.modules())


def test_units_of_a_layer_of_another_size_are_not_baked(generator):
    with pytest.raises(DissectError, match="has 6 units, and the units are of a layer of 7"):
        bake(generator, Units("layer8x8", (1,), 7))
    with pytest.raises(DissectError, match="has no layer 'layer9'"):
        bake(generator, Units("layer9", (1,), 7))


KEEP_ZERO = [one for kind in graph.KEEP_ZERO_MODULES for one in get_args(kind) or (kind,)]


@pytest.mark.parametrize("kind", KEEP_ZERO)
def test_modules_that_keep_zero_do(kind):
    shape = {nn.Dropout1d: (1, 3, 4), nn.Dropout3d: (1, 3, 1, 2, 2)}.get(kind, (1, 3, 2, 2))
    zero = kind().eval()(torch.zeros(shape))
    assert zero.detach().numpy().tobytes() == bytes(48)


@pytest.mark.parametrize("function", graph.KEEP_ZERO_FUNCTIONS, ids=lambda f: f.__name__)
def test_functions_that_keep_zero_do(function):
    assert function(torch.zeros(12)).numpy().tobytes() == bytes(48)


@pytest.mark.parametrize("method", graph.KEEP_ZERO_METHODS)
def test_methods_that_keep_zero_do(method):
    assert getattr(torch.zeros(12), method)().numpy().tobytes() == bytes(48)


class TiedNorms(nn.Module):
    """Two batch norms that share their weight and bias, as tensors or as views of one memory."""

    def __init__(self, tie):
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, padding=1)
        self.layer = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
        self.b, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        tie(self.layer[0], self.norm)

    def forward(self, x):
        return self.norm(self.b(self.layer(self.a(x))))


def _same(first, second):
    second.weight, second.bias = first.weight, first.bias


def _views(first, second):
    second.weight = nn.Parameter(first.weight.data[:])


@pytest.mark.parametrize("tie", [_same, _views])
def test_norms_that_share_weights_are_not_written_to(tie):
    torch.manual_seed(0)
    model, units, x = TiedNorms(tie).eval(), Units("layer", (0, 2), 4), torch.randn(2, 2, 6, 6)
    if tie is _same:
        with pytest.raises(DissectError, match="shares its weights with another module"):
            graph.maker_of(model, "layer")
    with torch.no_grad():
        with ablated(model, units):
            wanted = model(x)
        assert torch.equal(bake(model, units)(x), wanted)


def test_a_removed_unit_that_overflows_is_zero_in_the_baked_network():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    model = nn.Sequential(first, nn.Conv2d(4, 3, 1)).eval()
    nn.init.constant_(first[0].weight[0], 1e38)
    x, units = torch.full((1, 2, 2, 2), 1e5), Units("0", (0,), 4)
    with torch.no_grad():
        with ablated(model, units):
            wanted = model(x)
        assert torch.equal(bake(model, units)(x), wanted)
    assert wanted.isfinite().all()


COMPUTED = {
    "utils.weight_norm": nn.utils.weight_norm,
    "utils.spectral_norm": nn.utils.spectral_norm,
    "parametrizations.weight_norm": nn.utils.parametrizations.weight_norm,
    "parametrizations.spectral_norm": nn.utils.parametrizations.spectral_norm,
    "prune": lambda conv: prune.l1_unstructured(conv, "weight", 0.5),
}


@pytest.mark.parametrize("has_run", [False, True])
@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.filterwarnings("ignore")
def test_computed_weights_are_read_as_they_are_or_refused(name, has_run):
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    model = nn.Sequential(first, COMPUTED[name](nn.Conv2d(4, 3, 3))).eval()
    units, x = Units("0", (0, 2), 4), torch.randn(2, 2, 6, 6)
    with torch.no_grad():
        if has_run:
            model(x)
        with ablated(model, units):
            wanted = model(x)
        assert torch.equal(bake(model, units)(x), wanted)
    for call in (
        lambda: bake(model, units, strength=0.5, exact=False),
        lambda: excise(model, units),
    ):
        with pytest.raises(DissectError, match="has weights that are computed"):
            call()
