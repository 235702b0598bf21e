import pytest
import torch
from torch import nn

from dissect.errors import DissectError
from dissect.hooks import activations
from dissect.models import Generator
from dissect.surgery import ablated, bake, mean_activation
from dissect.units import Units


@pytest.fixture
def generator():
    torch.manual_seed(0)
    made = Generator(latent_size=4, width=3, image_size=32, kernel=4).eval()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.normal_()
                module.running_mean.normal_()
            elif isinstance(module, nn.ConvTranspose2d):
                module.weight.normal_(0, 0.3)
    return made


Z = torch.linspace(-1, 1, 20).reshape(5, 4)
UNITS = Units("layer8x8", (1, 4), 6)


class Table(nn.Module):
    """One layer that hands on what comes in, so that numbers can be worked by hand."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        return self.layer(x)


HAND = torch.tensor([[[[1.0, 2.0]], [[3.0, -4.0]]]])  # 1 sample, 2 units, 1 x 2 cells


def hand(**settings):
    model = Table().eval()
    with ablated(model, Units("layer", (1,), 2), **settings):
        return model(HAND)[0].squeeze(1).tolist()


def test_numbers_worked_by_hand():
    assert hand() == [[1, 2], [0, 0]]
    assert hand(where="everywhere") == [[1, 2], [0, 0]]
    assert hand(strength=0.5) == [[1, 2], [1.5, -2]]
    assert hand(strength=2) == [[1, 2], [-3, 4]]
    assert hand(replacement=torch.tensor([1.0])) == [[1, 2], [1, 1]]
    assert hand(replacement=torch.tensor([1.0]), strength=0.5) == [[1, 2], [2, -1.5]]
    assert hand(where=torch.tensor([[0.0, 1.0]])) == [[1, 2], [3, 0]]
    assert hand(where=torch.tensor([[[True, False]]])) == [[1, 2], [0, -4]]


class FirstUnitAbove:
    """A gate: open where the first unit is above 1.5."""

    def probability(self, acts):
        return (acts[:, 0] > 1.5).float()


def test_a_gate_reads_the_activation_before_the_edit():
    assert hand(where=FirstUnitAbove()) == [[1, 2], [3, 0]]
    model = Table().eval()
    with ablated(model, Units("layer", (0,), 2), where=FirstUnitAbove()):
        assert model(HAND)[0, 0].tolist() == [[1, 0]]


def test_strength_zero_changes_no_bit(generator):
    before = generator(Z)
    with ablated(generator, UNITS, strength=0):
        assert torch.equal(generator(Z), before)
    assert torch.equal(generator(Z), before)


def test_other_units_and_closed_cells_keep_every_bit(generator):
    before = activations(generator, "layer8x8", Z)
    gate = torch.zeros(8, 8)
    gate[2:4, 3:6] = 1
    with ablated(generator, UNITS, where=gate):
        after = activations(generator, "layer8x8", Z)
    others = [unit for unit in range(6) if unit not in UNITS.indices]
    assert torch.equal(after[:, others], before[:, others])
    closed = gate == 0
    assert torch.equal(after[:, :, closed], before[:, :, closed])
    assert float(after[:, list(UNITS.indices)][:, :, ~closed].abs().max()) == 0
    assert float(before[:, list(UNITS.indices)][:, :, ~closed].abs().max()) > 0


def test_a_baked_generator_is_bit_for_bit_the_ablated_one(generator):
    with ablated(generator, UNITS), torch.no_grad():
        wanted = generator(Z)
    edited = bake(generator, UNITS)
    with torch.no_grad():
        assert torch.equal(edited(Z), wanted)
        assert not torch.equal(generator(Z), wanted)
    assert not any(module._forward_hooks for module in edited.modules())


def test_zeroing_before_the_batch_norm_does_not_remove_the_unit(generator):
    with torch.no_grad():
        generator.layer8x8.norm.bias[1] = 2.0
        generator.layer8x8.norm.running_mean[1] = 0.0
    edited = bake(generator, Units("layer8x8", (), 6))
    with torch.no_grad():
        edited.layer8x8.conv.weight[:, 1] = 0.0
        acts = edited.layer8x8(edited.layer4x4(Z[:, :, None, None]))
    shift = generator.layer8x8.norm
    alone = shift.bias - shift.running_mean * shift.weight / (shift.running_var + shift.eps).sqrt()
    assert torch.allclose(acts[:, 1], alone[1].relu().expand_as(acts[:, 1]), atol=1e-6)
    assert float(acts[:, 1].abs().max()) > 0


def test_mean_ablation_keeps_the_mean(generator):
    means = mean_activation(generator, UNITS, Z, batch_size=2)
    acts = activations(generator, "layer8x8", Z)
    assert torch.allclose(means, acts.mean((0, 2, 3))[[1, 4]], atol=1e-6)
    with ablated(generator, UNITS, replacement=means):
        after = activations(generator, "layer8x8", Z)
    assert torch.allclose(after.mean((0, 2, 3)), acts.mean((0, 2, 3)), atol=1e-5)


def test_edits_nest_and_end(generator):
    before = generator(Z)
    with ablated(generator, UNITS), ablated(generator, Units("layer16x16", (0,), 3)):
        inner = generator(Z)
    with ablated(generator, UNITS):
        assert not torch.equal(generator(Z), inner)
    with pytest.raises(RuntimeError), ablated(generator, UNITS):
        raise RuntimeError
    assert torch.equal(generator(Z), before)


def test_an_ablation_is_the_same_in_any_batch(generator):
    with ablated(generator, UNITS, where=FirstUnitAbove()), torch.no_grad():
        assert torch.allclose(generator(Z)[2:3], generator(Z[2:3]), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": 2.5}, "strength must be from 0 to 2"),
        ({"threshold": 1.0}, "threshold must be"),
        ({"where": "here"}, "'everywhere', a probe or a tensor"),
        ({"replacement": "mean"}, "'zero' or a tensor"),
        ({"replacement": torch.zeros(3)}, "one value for each of the 2 units"),
        ({"where": torch.zeros(4, 4)}, r"the gate has shape \(4, 4\)"),
        ({"where": torch.zeros(3, 8, 8)}, r"the gate has shape \(3, 8, 8\)"),
    ],
)
def test_wrong_arguments_are_one_line(generator, settings, message):
    with (
        pytest.raises(DissectError, match=message) as caught,
        ablated(generator, UNITS, **settings),
    ):
        generator(Z)
    assert "\n" not in str(caught.value)


def test_units_of_another_layer_are_refused(generator):
    with (
        pytest.raises(DissectError, match="the units are of a layer of 7"),
        ablated(generator, Units("layer8x8", (1,), 7)),
    ):
        generator(Z)
    with (
        pytest.raises(DissectError, match="layer8x8"),
        ablated(generator, Units("layer9", (1,), 7)),
    ):
        generator(Z)


@pytest.mark.parametrize("layer", ["rgb", "layer8x8.conv"])
def test_a_layer_that_cannot_be_baked_says_so(generator, layer):
    total = 3 if layer == "rgb" else 6
    with pytest.raises(DissectError, match="cannot be written into the weights exactly"):
        bake(generator, Units(layer, (0,), total))
