"""Units cut out of networks: smaller ones that do the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import dissect
from dissect._utils.errors import DissectError
from dissect.models import Discriminator, Generator
from dissect.models.checkpoint import save_checkpoint
from dissect.surgery import ablated, excise
from dissect.units import Units

Z = torch.linspace(-1, 1, 20).reshape(5, 4)


def lively(model):
    """The model in eval mode, with batch norms that shift and scale."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d):
            if module.running_mean is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.2)
    return model.eval()


def generator():
    torch.manual_seed(0)
    return lively(Generator(latent_size=4, width=3, image_size=32, kernel=5))


def difference(model, units, inputs):
    """The largest difference of what is cut to what is ablated; also what was cut."""
    with torch.no_grad():
        with ablated(model, units):
            wanted = model(inputs)
        assert not torch.allclose(wanted, model(inputs), atol=1e-4)
        smaller = excise(model, units)
        return float((smaller(inputs) - wanted).abs().max()), smaller


@settings(max_examples=25, deadline=None)
@given(
    layer=st.sampled_from([("layer4x4", 12), ("layer8x8", 6), ("layer16x16", 3)]), data=st.data()
)
def test_an_excised_generator_is_the_ablated_one(layer, data):
    name, total = layer
    chosen = data.draw(st.sets(st.integers(0, total - 1), min_size=1, max_size=total - 1))
    model, units = generator(), Units(name, tuple(chosen), total)
    with torch.no_grad(), ablated(model, units):
        wanted = model(Z)
    smaller = excise(model, units)
    with torch.no_grad():
        assert torch.allclose(smaller(Z), wanted, atol=1e-5)


def test_every_weight_that_made_or_read_them_is_gone():
    model = generator()
    smaller = excise(model, Units("layer8x8", (1, 4), 6))
    shapes = {name: tuple(value.shape) for name, value in smaller.state_dict().items()}
    assert shapes["layer8x8.conv.weight"] == (12, 4, 5, 5)
    assert shapes["layer16x16.conv.weight"] == (4, 3, 5, 5)
    for part in ("weight", "bias", "running_mean", "running_var"):
        assert shapes[f"layer8x8.norm.{part}"] == (4,)
    before = sum(value.numel() for value in model.parameters())
    after = sum(value.numel() for value in smaller.parameters())
    # Two units: each was made by 12 x 25 weights, scaled by 2 and read by 3 x 25.
    assert before - after == 2 * (12 * 25 + 2 + 3 * 25)
    kept = [0, 2, 3, 5]
    assert torch.equal(smaller.layer8x8.norm.weight, model.layer8x8.norm.weight[kept])
    assert torch.equal(smaller.layer16x16.conv.weight, model.layer16x16.conv.weight[kept])
    assert smaller.layer8x8.conv.out_channels == smaller.layer16x16.conv.in_channels == 4
    assert smaller.layer8x8.norm.num_features == 4
    assert all(value.requires_grad for value in smaller.parameters())
    assert model.config == generator().config


def test_an_excised_generator_is_saved_loaded_and_cut_again(tmp_path):
    model = generator()
    smaller = excise(model, Units("layer8x8", (1, 4), 6))
    assert smaller.config["widths"] == [12, 4, 3]
    file = save_checkpoint(tmp_path / "small.safetensors", smaller)
    loaded = dissect.load(file)
    assert torch.equal(loaded(Z), smaller(Z))
    plain = Generator(**smaller.config).eval()
    plain.load_state_dict(smaller.state_dict())
    assert torch.equal(plain(Z), smaller(Z))
    # What was unit 5 is unit 3 now.
    again = excise(loaded, Units("layer8x8", (3,), 4))
    assert torch.allclose(again(Z), excise(model, Units("layer8x8", (1, 4, 5), 6))(Z), atol=1e-6)


def test_no_units_are_no_cut():
    model = generator()
    assert torch.equal(excise(model, Units("layer8x8", (), 6))(Z), model(Z))
    assert excise(model, Units("layer8x8", (), 6)).config == model.config


def test_the_discriminator_is_cut_before_its_flattened_linear_layer():
    torch.manual_seed(1)
    model = lively(Discriminator(width=2, image_size=16, kernel=4))
    images = torch.randn(5, 3, 16, 16)
    for layer in ("layer8x8", "layer4x4"):
        total = model.get_submodule(layer).conv.out_channels
        units = Units(layer, (0, total - 1) if total > 2 else (1,), total)
        largest, smaller = difference(model, units, images)
        assert largest < 1e-5
    assert smaller.score.linear.in_features == 2 * 16
    # Its checkpoint has no word for other widths.
    with pytest.raises(DissectError, match="not of the shape that its checkpoint can describe"):
        save_checkpoint("never.safetensors", smaller)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.ConvTranspose2d(4, 6, 4), nn.BatchNorm2d(6)
        self.b, self.c = nn.Conv2d(6, 2, 3), nn.Conv2d(6, 2, 3)

    def forward(self, x):
        x = F.leaky_relu(self.norm(self.a(x)), 0.2)
        return self.b(x) + self.c(F.avg_pool2d(F.interpolate(x, scale_factor=2.0), 2))


def straight(*parts):
    return nn.Sequential(nn.Sequential(*parts), nn.Conv2d(6, 2, 3))


FOREIGN = {
    "flat": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 6, 4),
            nn.BatchNorm2d(6),
            nn.ReLU(True),
            nn.Upsample(scale_factor=2),
            nn.Dropout2d(),
            nn.ConvTranspose2d(6, 3, 4, 2, 1),
            nn.Tanh(),
        ),
        "2",
    ),
    "no norm": (lambda: straight(nn.ConvTranspose2d(4, 6, 4), nn.Softplus()), "0"),
    "two norms": (
        lambda: straight(
            nn.ConvTranspose2d(4, 6, 4),
            nn.InstanceNorm2d(6, affine=True),
            nn.BatchNorm2d(6, affine=False),
            nn.PReLU(6),
        ),
        "0",
    ),
    "slopes after": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 4), nn.PReLU(6), nn.Conv2d(6, 2, 3)),
        "0",
    ),
    "two readers": (Functional, "norm"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_networks_are_cut(case):
    torch.manual_seed(3)
    make, layer = FOREIGN[case]
    model = lively(make())
    before = sum(value.numel() for value in model.parameters())
    largest, smaller = difference(model, Units(layer, (0, 5), 6), torch.randn(3, 4, 1, 1))
    assert largest < 1e-5
    assert sum(value.numel() for value in smaller.parameters()) < before
    assert type(smaller) is type(model)


class Residual(Functional):
    def forward(self, x):
        x = self.a(x)
        return self.b(F.relu(self.norm(x) + x))


class Joined(Functional):
    def forward(self, x):
        x = F.relu(self.norm(self.a(x)))
        return self.b(torch.cat([x, x], 1)[:, :6])


class Asks(Functional):
    def forward(self, x):
        return self.b(self.norm(self.a(x))) if x.sum() > 0 else x


class Twice(Functional):
    def forward(self, x):
        x = F.relu(self.norm(self.a(x)))
        return self.b(x) + self.b(x)


class Tied(Functional):
    def __init__(self):
        super().__init__()
        self.c.weight = self.b.weight


class Borrowed(Functional):
    def forward(self, x):
        return self.b(F.relu(self.norm(self.a(x)))) * self.b.weight.mean()


class Counted(Functional):
    def forward(self, x):
        x = F.relu(self.norm(self.a(x)))
        return self.b(x) / x.shape[1]


class Idle(Functional):
    def __init__(self):
        super().__init__()
        self.unused = nn.Conv2d(6, 6, 1)


def spectral():
    model = straight(nn.ConvTranspose2d(4, 6, 4), nn.ReLU())
    parametrizations.spectral_norm(model[1])
    return model


@pytest.mark.parametrize(
    ("make", "layer", "reason"),
    [
        (Residual, "norm", "used in another place"),
        (Joined, "norm", "cat joins|cat reads"),
        (Asks, "norm", "the forward code of Asks cannot be followed"),
        (Twice, "norm", "runs more than once"),
        (Tied, "norm", "shares its weights"),
        (Borrowed, "norm", "also reads by itself"),
        (Counted, "norm", "reads them"),
        (spectral, "0", "are computed"),
        (lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU()), "1", "what the model gives"),
        (lambda: straight(nn.Linear(1, 1)), "0", "Linear comes between"),
        (lambda: straight(nn.Conv2d(4, 6, 1, groups=2)), "0", "is in groups"),
        (lambda: straight(nn.Conv2d(4, 6, 1), nn.GroupNorm(2, 6)), "0", "GroupNorm comes between"),
        (lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)), "0", "BatchNorm2d reads"),
        (lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.Sigmoid()), "0", "Sigmoid reads them"),
        (lambda: straight(nn.ReLU()), "0", "made of 0 values|comes between"),
        (Idle, "unused", "the layer runs 0 times"),
    ],
)
def test_what_is_not_certain_is_refused_with_the_reason(make, layer, reason):
    with pytest.raises(DissectError, match=reason) as caught:
        excise(make().eval(), Units(layer, (0,), 6))
    assert "cannot be cut out with certainty" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_units_of_another_size_and_all_units_are_refused():
    with pytest.raises(DissectError, match="has 6 units, and the units are of a layer of 7"):
        excise(generator(), Units("layer8x8", (1,), 7))
    with pytest.raises(DissectError, match="a layer keeps at least 1"):
        excise(generator(), Units("layer16x16", (0, 1, 2), 3))
    with pytest.raises(DissectError, match="they are what the model gives"):
        excise(generator(), Units("rgb", (0,), 3))
    with pytest.raises(DissectError, match="has no layer 'layer9'"):
        excise(generator(), Units("layer9", (0,), 3))
