"""The one edit: what it does, what varies it, and the file that holds it."""

import json
from dataclasses import replace

import pytest
import torch
from helpers.surgery import UNITS, Z, small_generator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dissect._utils.errors import DissectError
from dissect.models import load, save_checkpoint
from dissect.surgery import Intervention, LinearGate, MaskGate, ablated, bake
from dissect.surgery.apply import unit_levels
from dissect.units import Units

GATE = LinearGate("layer8x8", torch.linspace(-3, 4, 6, dtype=torch.float64) / 7, -1 / 3)
REGION = torch.zeros(8, 8)
REGION[2:6, 1:5] = 1 / 3
OTHER = Units("layer16x16", (0, 2), 3)


@pytest.fixture
def generator():
    return small_generator()


def images(model, edit=None):
    with torch.inference_mode():
        if edit is None:
            return model(Z)
        with edit.applied(model):
            return model(Z)


EDITS = {
    "the paper's": Intervention(UNITS),
    "gated": Intervention(UNITS, GATE, threshold=0.4),
    "in a region": Intervention(UNITS, region=REGION, threshold=0.2),
    "gated in a region": Intervention(UNITS, GATE, REGION, 0.1, 1.5),
    "in a mask": Intervention(UNITS, MaskGate(REGION, GATE), threshold=0.1),
    "strengths": Intervention(UNITS, strength=1.1, unit_strengths=(0.3, 1.9)),
    "levels": Intervention(UNITS, replacement=torch.linspace(-1, 1, 6) / 3),
    "two layers": Intervention(UNITS, GATE) + Intervention(OTHER),
    "one layer twice": Intervention(UNITS, GATE) + Intervention(Units("layer8x8", (0,), 6)),
    "twice, weights first": Intervention(Units("layer8x8", (0,), 6)) + Intervention(UNITS, GATE),
    "three": Intervention(UNITS, strength=0.5)
    + (Intervention(UNITS, region=REGION > 0) + Intervention(OTHER, strength=2)),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_comes_back_from_its_file_and_from_its_checkpoint_to_the_bit(
    generator, tmp_path, name
):
    edit = EDITS[name]
    wanted = images(generator, edit)
    assert not torch.equal(wanted, images(generator))
    again = Intervention.load(edit.save(tmp_path / "edit.json"))
    assert torch.equal(images(generator, again), wanted)
    assert again.to_dict() == edit.to_dict()
    assert json.loads(json.dumps(edit.to_dict())) == edit.to_dict()
    baked = edit.bake(generator)
    assert torch.equal(images(baked), wanted)
    save_checkpoint(tmp_path / "edited.safetensors", baked)
    assert torch.equal(images(load(tmp_path / "edited.safetensors")), wanted)
    loose = edit.bake(generator, exact=False)
    assert torch.allclose(images(loose), wanted, atol=1e-5)


def test_the_short_forms_are_the_same_edit(generator):
    gated = Intervention(UNITS, GATE, REGION, 0.1, 1.5, (0.5, 1.0), torch.arange(6.0))
    arguments = {
        "where": MaskGate(REGION, GATE),
        "threshold": 0.1,
        "strength": torch.tensor([0.75, 1.5]),
        "replacement": torch.tensor([float(unit) for unit in UNITS.indices]),
    }
    wanted = images(generator, gated)
    with torch.inference_mode(), ablated(generator, UNITS, **arguments):
        assert torch.equal(generator(Z), wanted)
    assert torch.equal(images(bake(generator, UNITS, **arguments)), wanted)


floats = st.floats(-1e6, 1e6, width=32)
fractions = st.floats(0, 1, width=32)


@st.composite
def edits(draw, depth=2):
    total = draw(st.integers(1, 5))
    indices = draw(st.lists(st.integers(0, total - 1), unique=True, max_size=total))
    scores = draw(st.sampled_from([(), tuple(map(float, indices))]))
    units = Units(draw(st.text(min_size=1, max_size=3)), tuple(indices), total, scores)
    grid = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    region = arrays.arrays("float32", grid, elements=fractions).map(torch.from_numpy)
    weight = arrays.arrays("float64", total, elements=st.floats(-9, 9)).map(torch.from_numpy)
    linear = st.builds(LinearGate, st.just(units.layer), weight, st.floats(-9, 9))
    gate = st.none() | linear | st.builds(MaskGate, region, st.none() | linear)
    levels = arrays.arrays("float32", total, elements=floats).map(torch.from_numpy)
    strength = st.floats(0, 2)
    return Intervention(
        units,
        draw(gate),
        draw(st.none() | region),
        draw(st.floats(0, 1, exclude_max=True)),
        draw(strength),
        draw(st.none() | st.tuples(*[strength] * len(indices))),
        draw(st.just("zero") | levels),
        tuple(draw(st.lists(edits(depth=depth - 1), max_size=2))) if depth else (),
    )


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Intervention | LinearGate | MaskGate):
        return all(same(value, getattr(other, key)) for key, value in vars(one).items())
    return one == other


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edit=edits())
def test_every_number_of_an_edit_survives_its_file(tmp_path_factory, edit):
    path = tmp_path_factory.mktemp("edit") / "edit.json"
    assert same(edit, Intervention.load(edit.save(path)))


def test_values_that_need_doubles_come_back_as_doubles(tmp_path):
    levels = torch.tensor([0.1, 1 / 3], dtype=torch.float64)
    edit = Intervention(Units("x", (0,), 2), replacement=levels)
    assert same(edit, Intervention.load(edit.save(tmp_path / "edit.json")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "units"}, "not a edit file|not an edit file"),
        ({"strength": 3}, "strength must be from 0 to 2"),
        ({"strengths": [1]}, "'unit_strengths'"),
        ({"unit_strengths": [1]}, "each of the 2 units, not 1"),
        ({"region": [[1.0], [1.0, 0.0]]}, "rows of a region"),
        ({"region": []}, "'region'"),
        ({"gate": {"type": "probe"}}, "'gate' .*'linear', 'mask'"),
        ({"gate": {"type": "linear", "layer": "x", "weight": [1], "bias": 0}}, "reads 'x'"),
        ({"replacement": [1.0]}, "each of the 6 units"),
        ({"units": {"layer": "x", "indices": [7], "total": 3}}, "unit 7 is not in 'x'"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_it(tmp_path, change, message):
    path = tmp_path / "mine.json"
    EDITS["gated"].save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DissectError, match=message) as caught:
        Intervention.load(path)
    assert "\n" not in str(caught.value)
    assert "mine.json" in str(caught.value)


class Bright:
    """A gate of another kind."""

    def probability(self, acts):
        return acts.mean(1).sigmoid()


def test_what_no_file_and_no_network_can_hold_is_refused(tmp_path, generator):
    with pytest.raises(DissectError, match="Bright cannot be saved"):
        Intervention(UNITS, Bright()).save(tmp_path / "edit.json")
    with pytest.raises(DissectError, match="Bright cannot be written"):
        Intervention(UNITS, Bright()).bake(generator)
    each = Intervention(UNITS, region=torch.ones(5, 8, 8))
    with pytest.raises(DissectError, match="same for every sample"):
        each.save(tmp_path / "edit.json")
    with pytest.raises(DissectError, match="same for every sample"):
        each.bake(generator)
    assert not list(tmp_path.iterdir())


def test_what_varies_an_edit_varies_all_its_parts(generator):
    both = Intervention(UNITS, GATE, unit_strengths=(0.5, 2.0)) + Intervention(OTHER)
    assert both.layers == ("layer8x8", "layer16x16")
    assert [part.units for part in both.parts] == [UNITS, OTHER]
    assert [part.strength for part in both.with_strength(0.7).parts] == [0.7, 0.7]
    assert torch.equal(images(generator, both.with_strength(0)), images(generator))
    assert [len(part.units) for part in both.strongest(1).parts] == [1, 1]
    control = both.control(3)
    assert [part.units.indices for part in control.parts] == [
        UNITS.random(3).indices,
        OTHER.random(3).indices,
    ]
    assert control.parts[0].unit_strengths == (0.5, 2.0)
    with pytest.raises(DissectError, match="cannot take 3"):
        both.strongest(3)


def test_edits_are_joined_in_their_order(generator):
    """A gate is judged on the layer as the edit before it leaves it."""
    every = Units("layer8x8", tuple(range(6)), 6)
    first, gated = Intervention(every), Intervention(UNITS, GATE, replacement=torch.ones(6))
    closed = images(generator, first + gated)
    assert torch.equal(closed, images(generator, first))
    assert not torch.equal(images(generator, gated), images(generator))
    assert repr(first + gated) == (
        "Intervention(6 of 6 units of layer8x8 + 2 of 6 units of layer8x8, "
        "gate=LinearGate, threshold=0.5, each at its own level)"
    )


def test_a_filled_layer_has_every_level_where_the_gate_is_open(generator):
    levels = torch.arange(6.0)
    edit = Intervention.fill(GATE, levels, layer="layer8x8", threshold=0.4)
    assert torch.equal(unit_levels(edit), levels)
    assert replace(edit, gate=None).units.indices == tuple(range(6))
    assert not torch.equal(images(generator, edit), images(generator))
