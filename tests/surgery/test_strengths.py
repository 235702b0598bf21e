"""A strength of its own for each unit: for a while, in a module, and in plain weights."""

import pytest
import torch
from torch import nn

import dissect
from dissect._utils.errors import DissectError
from dissect.models import Generator, load, save_checkpoint
from dissect.surgery import ablated, bake
from dissect.surgery.apply import unit_amounts
from dissect.surgery.intervention import Intervention
from dissect.units import Units

UNITS = Units("layer8x8", (5, 1, 6), 8)
STRENGTHS = torch.tensor([0.5, 1.0, 1.75])


@pytest.fixture
def generator():
    torch.manual_seed(0)
    made = Generator(latent_size=6, width=4, image_size=32, kernel=4)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.uniform_(-0.1, 0.3)
    return made.eval()


@pytest.fixture
def z():
    return torch.rand(7, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1


def images(model, z):
    with torch.inference_mode():
        return model(z)


def test_each_unit_has_its_own_strength(generator, z):
    before = dissect.activations(generator, "layer8x8", z)
    with ablated(generator, UNITS, strength=STRENGTHS):
        after = dissect.activations(generator, "layer8x8", z)
    for unit, strength in zip(UNITS.indices, STRENGTHS.tolist(), strict=True):
        torch.testing.assert_close(after[:, unit], before[:, unit] * (1 - strength))
    others = [unit for unit in range(8) if unit not in UNITS.indices]
    assert torch.equal(after[:, others], before[:, others])


@pytest.mark.parametrize("where", [None, "region"])
@pytest.mark.parametrize("filled", [False, True])
def test_a_module_holds_them_bit_for_bit(generator, z, tmp_path, where, filled):
    region = torch.zeros(8, 8, dtype=torch.bool)
    region[2:5] = True
    arguments = {
        "where": region if where else None,
        "strength": STRENGTHS,
        "replacement": torch.tensor([0.1, 0.2, 0.3]) if filled else "zero",
    }
    with ablated(generator, UNITS, **arguments):
        wanted = images(generator, z)
    edited = bake(generator, UNITS, **arguments)
    assert torch.equal(images(edited, z), wanted)
    assert not torch.equal(images(generator, z), wanted)
    save_checkpoint(tmp_path / "edited.safetensors", edited)
    assert torch.equal(images(load(tmp_path / "edited.safetensors"), z), wanted)


@pytest.mark.parametrize("strength", [0.5, 1.5, STRENGTHS])
def test_plain_weights_hold_them_within_rounding(generator, z, tmp_path, strength):
    with ablated(generator, UNITS, strength=strength):
        wanted = images(generator, z)
    edited = bake(generator, UNITS, strength=strength, exact=False)
    assert edited.state_dict().keys() == generator.state_dict().keys()
    assert float((images(edited, z) - wanted).abs().max()) < 1e-5
    assert float((images(generator, z) - wanted).abs().max()) > 1e-3
    save_checkpoint(tmp_path / "edited.safetensors", edited)
    assert torch.equal(images(load(tmp_path / "edited.safetensors"), z), images(edited, z))


def test_what_weights_hold_exactly_stays_exact(generator, z):
    exact = bake(generator, UNITS).state_dict()
    loose = bake(generator, UNITS, exact=False).state_dict()
    assert all(torch.equal(exact[name], loose[name]) for name in exact)


class Branched(nn.Module):
    """A layer that a convolution and a sum read."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
        self.after = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        made = self.layer(x)
        return self.after(made) + made


def test_a_layer_that_more_than_convolutions_read_is_refused():
    units = Units("layer", (1, 2, 3), 8)
    with pytest.raises(DissectError, match="cannot be written into plain weights: call_function"):
        bake(Branched().eval(), units, strength=STRENGTHS, exact=False)
    # A module at the layer's end holds it all the same.
    x = torch.rand(2, 3, 4, 4)
    model = Branched().eval()
    edited = bake(model, units, strength=STRENGTHS)
    with ablated(model, units, strength=STRENGTHS):
        wanted = images(model, x)
    assert torch.equal(images(edited, x), wanted)


def test_an_edit_at_the_end_of_a_layer_reads_it_before_the_convolution(generator):
    edited = bake(generator, UNITS, strength=STRENGTHS)
    with pytest.raises(DissectError, match="cannot be written into plain weights"):
        bake(edited, Units("layer8x8.activation", (1,), 8), strength=0.5, exact=False)


@pytest.mark.parametrize(
    ("strength", "message"),
    [
        (torch.ones(2), "one value for each of the 3 units"),
        (torch.tensor([1.0, 2.5, 0.0]), "from 0 to 2"),
        (torch.tensor([1.0, float("nan"), 0.0]), "from 0 to 2"),
    ],
)
def test_strengths_that_cannot_be_are_refused(generator, strength, message):
    with pytest.raises(DissectError, match=message):
        ablated(generator, UNITS, strength=strength)


def test_the_strengths_of_units_go_with_the_units():
    edit = Intervention(UNITS, unit_strengths=(0.4, 2.0, 1.0))
    assert unit_amounts(edit, torch.empty(0)).tolist() == pytest.approx([0.4, 2.0, 1.0])
    assert unit_amounts(edit.with_strength(1.5), torch.empty(0)).tolist() == pytest.approx(
        [0.6, 2.0, 1.5]
    )
    assert edit.strongest(2).units.indices == (5, 1)
    assert edit.strongest(2).unit_strengths == (0.4, 2.0)
    control = edit.control(0)
    assert control.unit_strengths == edit.unit_strengths
    assert control.units.indices != edit.units.indices
    scored = Units("layer8x8", (5, 1, 6), 8, (0.1, 0.9, 0.5))
    assert Intervention(scored, unit_strengths=(0.4, 2.0, 1.0)).strongest(2).unit_strengths == (
        2.0,
        1.0,
    )


@pytest.mark.parametrize("strengths", [(1.0,), (1.0, 2.1, 0.0), (1.0, -0.1, 0.0)])
def test_strengths_of_units_that_cannot_be_are_refused(strengths):
    with pytest.raises(DissectError, match="strength"):
        Intervention(UNITS, unit_strengths=strengths)
