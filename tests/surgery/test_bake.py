"""Edits other than removal everywhere, written into a network."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dissect
from dissect._utils.errors import DissectError
from dissect.hooks import record
from dissect.models import GatedEdit, Generator
from dissect.models.checkpoint import load_checkpoint, save_checkpoint
from dissect.probe import Probe
from dissect.surgery import Intervention, MaskGate, ablated, bake, excise
from dissect.units import Units

Z = torch.linspace(-1, 1, 20).reshape(5, 4)
UNITS = Units("layer8x8", (0, 3), 6)


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


def probe_of(weight, bias, layer="layer8x8"):
    weight = torch.tensor(weight, dtype=torch.float64)
    return Probe(
        layer, "spot", weight, bias, torch.ones(len(weight)), torch.ones(len(weight)), None
    )


PROBE = probe_of([0.7, -0.4, 0.3, 1.1, -0.2, 0.05], -2.0)


def images(model, z=Z):
    with torch.no_grad():
        return model(z)


def edited_images(model, units, **edit):
    with torch.no_grad(), ablated(model, units, **edit):
        return model(Z)


# A layer of two units on a grid of two cells: unit 0 is 1 and 2, unit 1 is 3 and -4.
HAND = torch.tensor([[[[1.0, 2.0]], [[3.0, -4.0]]]])


def table(edit):
    """What a table of numbers becomes under an edit of its unit 1 that is baked."""
    model = nn.Sequential(nn.Sequential(nn.Identity()), nn.Identity()).eval()
    baked = bake(model, Units("0", (1,), 2), **edit)
    assert torch.equal(edited(model, **edit), images(baked, HAND))
    return images(baked, HAND)[0].squeeze(1).tolist()


def edited(model, **edit):
    with torch.no_grad(), ablated(model, Units("0", (1,), 2), **edit):
        return model(HAND)


def test_numbers_worked_by_hand():
    # The logit is unit 0 less 1.5: the gate is shut at the first cell and open at the second.
    gate = probe_of([1.0, 0.0], -1.5, "0")
    assert table({"where": gate}) == [[1, 2], [3, 0]]
    assert table({"where": gate, "strength": 1.5}) == [[1, 2], [3, 2]]
    assert table({"where": gate, "replacement": torch.tensor([7.0])}) == [[1, 2], [3, 7]]
    assert table({"where": gate, "strength": 0.5, "replacement": torch.tensor([6.0])}) == [
        [1, 2],
        [3, 1],
    ]
    # sigmoid(-0.5) is 0.378 and sigmoid(0.5) is 0.622.
    assert table({"where": gate, "threshold": 0.37}) == [[1, 2], [0, 0]]
    assert table({"where": gate, "threshold": 0.63}) == [[1, 2], [3, -4]]
    assert table({"where": torch.tensor([[1.0, 0.0]])}) == [[1, 2], [0, -4]]
    assert table({"where": torch.tensor([[False, True]]), "strength": 2}) == [[1, 2], [3, 4]]
    assert table({"where": MaskGate(torch.tensor([[1.0, 0.0]]), gate)}) == [[1, 2], [3, -4]]
    # 0.8 of 0.622 is 0.498.
    assert table({"where": MaskGate(torch.tensor([[1.0, 0.8]]), gate)}) == [[1, 2], [3, -4]]
    assert table({"where": MaskGate(torch.tensor([[1.0, 0.9]]), gate)}) == [[1, 2], [3, 0]]
    assert table({"strength": 1.5}) == [[1, 2], [-1.5, 2]]


REGION = torch.zeros(8, 8)
REGION[2:6, 1:5] = 1
EDITS = {
    "probe": {"where": PROBE},
    "threshold": {"where": PROBE, "threshold": 0.31},
    "strength": {"where": PROBE, "strength": 1.5},
    "weak": {"where": PROBE, "strength": 0.3},
    "values": {"where": PROBE, "replacement": torch.tensor([1 / 3, -2.0])},
    "both": {"where": PROBE, "replacement": torch.tensor([1 / 3, -2.0]), "strength": 1.7},
    "region": {"where": REGION},
    "within": {"where": MaskGate(REGION, PROBE)},
    "everywhere, strength": {"strength": 1.5},
    "everywhere, values": {"replacement": torch.tensor([1 / 3, -2.0])},
    "everywhere, values above zero": {"replacement": torch.tensor([1 / 3, 2.0])},
    "nowhere": {"where": PROBE, "strength": 0.0},
}


@pytest.mark.parametrize("name", EDITS)
def test_a_baked_edit_is_bit_for_bit_the_ablated_one_saved_or_not(generator, tmp_path, name):
    wanted = edited_images(generator, UNITS, **EDITS[name])
    if name != "nowhere":
        assert not torch.equal(wanted, images(generator))
        assert name.startswith("every") or not torch.equal(wanted, edited_images(generator, UNITS))
    baked = bake(generator, UNITS, **EDITS[name])
    assert torch.equal(images(baked), wanted)
    assert not any(module._forward_hooks for module in baked.modules())
    file = save_checkpoint(tmp_path / "edited.safetensors", baked)
    assert torch.equal(images(dissect.load(file)), wanted)
    # Plain PyTorch: the class, its configuration, and a state dict.
    plain = Generator(**json.loads(json.dumps(baked.config))).eval()
    plain.load_state_dict(baked.state_dict())
    assert torch.equal(images(plain), wanted)


@settings(max_examples=25, deadline=None)
@given(
    weight=st.lists(st.floats(-3, 3), min_size=6, max_size=6),
    bias=st.floats(-2, 2),
    threshold=st.floats(0, 0.99),
    strength=st.floats(0, 2),
    units=st.sets(st.integers(0, 5), min_size=1),
)
def test_any_probe_is_baked_bit_for_bit(weight, bias, threshold, strength, units):
    torch.manual_seed(1)
    model = Generator(latent_size=4, width=3, image_size=32, kernel=4).eval()
    units = Units("layer8x8", tuple(sorted(units)), 6)
    edit = {
        "where": probe_of(weight, bias),
        "threshold": threshold,
        "strength": strength,
    }
    assert torch.equal(images(bake(model, units, **edit)), edited_images(model, units, **edit))


def test_values_above_zero_go_into_the_weights_and_others_into_a_module(generator):
    above = bake(generator, UNITS, replacement=torch.tensor([0.25, 0.0]))
    assert above.config == generator.config
    assert above.layer8x8.norm.weight[[0, 3]].tolist() == [0, 0]
    assert above.layer8x8.norm.bias[[0, 3]].tolist() == [0.25, 0]
    below = bake(generator, UNITS, replacement=torch.tensor([0.25, -1.0]))
    assert [edit["layer"] for edit in below.config["edits"]] == ["layer8x8"]
    assert torch.equal(below.layer8x8.norm.bias, generator.layer8x8.norm.bias)
    # A tanh would turn 0.25 into 0.24.
    bounded = nn.Sequential(nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.Tanh())).eval()
    units, values = Units("0", (1, 4), 6), torch.tensor([0.25, 0.0])
    baked = bake(bounded, units, replacement=values)
    assert isinstance(baked[0][-1], GatedEdit)
    assert images(baked, torch.randn(1, 4, 2, 2))[0, 1].tolist() == [[0.25, 0.25], [0.25, 0.25]]


def test_a_gate_opens_at_the_same_cells_under_autocast():
    torch.manual_seed(0)
    # Units far from 0: a sum in bfloat16 would have no digits left.
    acts = torch.randn(40, 64, 4, 4) + 30
    weight = torch.randn(64)
    weight -= weight.mean()
    probe = probe_of(weight.tolist(), 0.3, layer="0")
    right = torch.einsum("nchw,c->nhw", acts.double(), weight.double()).add(0.3).sigmoid()
    model = nn.Sequential(nn.Identity(), nn.Identity()).eval()
    units = Units("0", (1, 4), 64)
    baked = bake(model, units, where=probe)
    with torch.autocast("cpu", torch.bfloat16):
        found = probe.probability(acts)
        written = baked(acts)
    assert found.dtype == torch.float32
    assert (found - right).abs().max() < 1e-4
    assert torch.equal(written[:, 1] == 0, found > 0.5)


def test_a_gated_edit_says_what_it_is(generator):
    baked = bake(generator, UNITS, where=PROBE, threshold=0.25, strength=1.5)
    assert baked.config["edits"] == [
        {"layer": "layer8x8", "probe": True, "grid": None, "threshold": 0.25, "strength": 1.5}
    ]
    edit = baked.layer8x8.edit
    assert edit.edited.tolist() == [True, False, False, True, False, False]
    assert "Conv2d(6, 1, kernel_size=(1, 1)" in repr(edit)
    assert "strength=1.5" in repr(edit)
    assert "edits" not in generator.config


def test_edits_add_up_in_order(generator):
    first = bake(generator, UNITS, where=PROBE)
    second = bake(first, Units("layer8x8", (1, 5), 6), where=PROBE, strength=2)
    third = bake(second, Units("layer16x16", (0,), 3))
    with (
        ablated(generator, UNITS, where=PROBE),
        ablated(generator, Units("layer8x8", (1, 5), 6), where=PROBE, strength=2),
        ablated(generator, Units("layer16x16", (0,), 3)),
    ):
        wanted = images(generator)
    assert torch.equal(images(third), wanted)
    assert len(third.config["edits"]) == 2
    # Zeros in the weights would change what the first edit's gate reads.
    removed = bake(first, UNITS)
    assert len(removed.config["edits"]) == 2
    assert torch.equal(images(removed), edited_images(first, UNITS))


def test_what_dissect_does_with_a_model_works_on_an_edited_one(generator):
    baked = bake(generator, UNITS, where=PROBE)
    acts = dissect.activations(baked, "layer8x8", Z)
    with ablated(generator, UNITS, where=PROBE):
        assert torch.equal(dissect.activations(generator, "layer8x8", Z), acts)
    with ablated(baked, Units("layer16x16", (0,), 3)), torch.no_grad():
        assert torch.equal(baked(Z), images(bake(baked, Units("layer16x16", (0,), 3))))
    smaller = excise(baked, Units("layer16x16", (0,), 3))
    assert smaller.config["widths"] == [12, 6, 2]
    assert len(smaller.config["edits"]) == 1


def test_half_the_size_leaves_the_gate_as_it_is(generator, tmp_path):
    baked = bake(generator, UNITS, where=PROBE)
    file = save_checkpoint(tmp_path / "half.safetensors", baked, half=True)
    loaded, _ = load_checkpoint(file)
    assert torch.equal(loaded.layer8x8.edit.probe.weight, baked.layer8x8.edit.probe.weight)
    assert not torch.equal(loaded.layer8x8.conv.weight, baked.layer8x8.conv.weight)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_other_precisions_are_baked_bit_for_bit_too(generator, kind):
    generator.to(kind)
    z = Z.to(kind)
    with torch.no_grad(), ablated(generator, UNITS, where=PROBE, strength=1.5):
        wanted = generator(z)
    assert torch.equal(images(bake(generator, UNITS, where=PROBE, strength=1.5), z), wanted)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(2, 2, 1), nn.Sigmoid()

    def forward(self, x):
        return self.act(self.conv(x))


@pytest.mark.parametrize("layer", ["0", "0.act", "0.conv"])
def test_a_layer_of_any_class_takes_a_gated_edit(layer):
    torch.manual_seed(2)
    model = nn.Sequential(Block(), nn.Conv2d(2, 1, 1)).eval()
    units, gate = Units(layer, (1,), 2), probe_of([2.0, -1.0], -0.2, layer)
    x = torch.randn(3, 2, 4, 4)
    with ablated(model, units, where=gate):
        wanted = images(model, x)
    baked = bake(model, units, where=gate)
    assert torch.equal(images(baked, x), wanted)
    assert not torch.equal(images(model, x), wanted)
    assert isinstance(baked.get_submodule(layer).edit, GatedEdit)


@pytest.mark.parametrize("name", ["1", "3"])
def test_a_layer_that_runs_in_two_places_is_edited_in_the_one_that_is_named(name):
    torch.manual_seed(0)
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(2, 2, 1), relu, nn.Conv2d(2, 2, 1), relu).eval()
    gate, x = probe_of([2.0, -1.0], 2.0, name), torch.randn(3, 2, 4, 4)
    with ablated(model, Units(name, (1,), 2), where=gate):
        wanted = images(model, x)
    baked = bake(model, Units(name, (1,), 2), where=gate)
    assert torch.equal(images(baked, x), wanted)
    assert not torch.equal(images(model, x), wanted)


class Reuses(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.relu = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.ReLU()

    def forward(self, x):
        return self.relu(self.b(self.relu(self.a(x))))


@pytest.mark.parametrize("name", ["relu", "relu#2"])
def test_an_edit_of_one_run_of_a_layer_is_not_written_into_all(name):
    edit = Intervention(Units(name, (1,), 2), strength=0.5)
    model, x = Reuses().eval(), torch.randn(3, 2, 4, 4)
    with edit.applied(model), record(model, "relu", "relu#2") as acts:
        model(x)
    with record(model, "relu", "relu#2") as plain:
        model(x)
    assert torch.equal(acts[name][:, 1], 0.5 * plain[name][:, 1])
    if name == "relu#2":
        assert torch.equal(acts["relu"], plain["relu"])
    else:
        assert not torch.equal(acts["relu#2"][:, 1], 0.5 * plain["relu#2"][:, 1])
    with pytest.raises(DissectError, match="runs 2 times in a pass"):
        edit.bake(model)


class Other:
    def probability(self, acts):
        return acts[:, 0].sigmoid()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"where": Other()}, "a gate of type Other cannot be written into a network"),
        ({"where": torch.ones(5, 8, 8)}, "the same for every sample"),
        ({"where": "here"}, "'everywhere', a probe or a tensor"),
        ({"where": PROBE, "strength": 3}, "strength must be from 0 to 2"),
        ({"where": PROBE, "threshold": 1}, "threshold must be"),
        ({"where": probe_of([1.0] * 5, 0.0)}, "has 5 units, and the units are of a layer of 6"),
        ({"where": probe_of([1.0], 0.0, "rgb")}, "the probe reads 'rgb'"),
        ({"replacement": torch.ones(3)}, "one value for each of the 2 units"),
    ],
)
def test_what_cannot_be_baked_is_one_line(generator, edit, message):
    with pytest.raises(DissectError, match=message) as caught:
        bake(generator, UNITS, **edit)
    assert "\n" not in str(caught.value)


def test_units_and_grids_of_another_layer_are_refused(generator):
    with pytest.raises(DissectError, match="has no layer 'layer9'"):
        bake(generator, Units("layer9", (1,), 7), strength=0.5)
    with pytest.raises(DissectError, match="has 6 units, and the units are of a layer of 7"):
        bake(generator, Units("layer8x8", (1,), 7), strength=0.5)
    with pytest.raises(DissectError, match=r"the gate has shape \(4, 4\)"):
        bake(generator, UNITS, where=torch.ones(4, 4))
    baked = bake(generator.layer8x8, Units("norm", (1,), 6), where=torch.ones(4, 4))
    with pytest.raises(DissectError, match=r"a region of a \(4, 4\) grid"):
        baked(torch.ones(1, 12, 4, 4))
    baked = bake(nn.Sequential(nn.Identity(), nn.Identity()), Units("0", (0,), 3), strength=0.5)
    with pytest.raises(DissectError, match="a layer of 3 units, and got"):
        baked(torch.ones(2, 4))


def test_an_edit_inside_a_block_is_baked_but_no_checkpoint_can_tell_it(generator, tmp_path):
    units, gate = Units("layer8x8.norm", (1,), 6), probe_of([1.0] * 6, 0.0, "layer8x8.norm")
    baked = bake(generator, units, where=gate)
    assert torch.equal(images(baked), edited_images(generator, units, where=gate))
    with pytest.raises(DissectError, match="not of the shape that its checkpoint can describe"):
        save_checkpoint(tmp_path / "x.safetensors", baked)
    assert not list(tmp_path.iterdir())


def test_gradients_pass_a_baked_edit_as_they_pass_an_ablated_one(generator):
    with ablated(generator, UNITS, where=PROBE, strength=1.5):
        z = Z.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(generator(z).square().sum(), z)
    baked, z = bake(generator, UNITS, where=PROBE, strength=1.5), Z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(baked(z).square().sum(), z)
    assert torch.equal(slope, wanted)


def test_an_edited_generator_is_exported(generator):
    baked = bake(generator, UNITS, where=MaskGate(REGION, PROBE), strength=1.5)
    exported = torch.export.export(
        baked, (Z,), dynamic_shapes=({0: torch.export.Dim("samples", min=1)},)
    ).module()
    for n in (1, 3, 5, 17):
        z = dissect.latents(n, seed=n, size=4)
        assert torch.equal(exported(z), images(baked, z))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("widths", [12, 6]),
        ("widths", [12, 6, 0]),
        ("widths", "12"),
        ("widths", [12, 6, 10**9]),
        ("edits", [{"layer": "layer8x8"}]),
        ("edits", [3]),
        ("edits", [{"layer": "a", "probe": True, "grid": None, "threshold": 0, "strength": 1}]),
        ("edits", [{"layer": "rgb", "probe": 1, "grid": None, "threshold": 0, "strength": 1}]),
        ("edits", [{"layer": "rgb", "probe": True, "grid": [8], "threshold": 0, "strength": 1}]),
        ("edits", [{"layer": "rgb", "probe": True, "grid": None, "threshold": 2, "strength": 1}]),
        ("edits", [{"layer": "rgb", "probe": True, "grid": None, "threshold": 0, "x": 1}]),
    ],
)
def test_a_damaged_configuration_is_one_line(generator, tmp_path, key, value):
    from safetensors.torch import save

    file = tmp_path / "damaged.safetensors"
    config = json.dumps({**generator.config, key: value})
    about = {"format": "dissect-1", "network": "generator", "config": config, "card": "{}"}
    file.write_bytes(save(dict(generator.state_dict()), about))
    with pytest.raises(DissectError, match="is damaged") as caught:
        dissect.load(file)
    assert "\n" not in str(caught.value)
