"""Edits of directions: applied, saved, and written into a network in every way."""

import pytest
import torch

from dissect._utils.errors import DissectError
from dissect.models import Generator, latents_for, load_checkpoint, save_checkpoint
from dissect.surgery import Intervention, LinearGate, excise
from dissect.surgery.apply import edited_activation
from dissect.units import Directions, Units

LAYER, CHANNELS = "layer8x8", 8


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Generator(latent_size=8, width=4, image_size=32).eval()


def units(k=2, *, bias=False, rectified=False, seed=0):
    random = torch.Generator().manual_seed(seed)
    read, write = (torch.randn(k, CHANNELS, generator=random) / 3 for _ in range(2))
    offsets = torch.randn(k, generator=random) if bias else None
    along = Directions(read, write, offsets, rectified)
    return Units(LAYER, tuple(range(k)), k, directions=along)


def images(model, edit=None):
    z = latents_for(model, 5, 1)
    with torch.inference_mode():
        if edit is None:
            return model(z)
        with edit.applied(model):
            return model(z)


def activation(model, edit):
    found = []
    hook = model.get_submodule("layer16x16").register_forward_pre_hook(
        lambda module, args: found.append(args[0].clone())
    )
    images(model, edit)
    hook.remove()
    return found[0]


def test_the_activation_changes_along_what_is_written(model):
    before = activation(model, Intervention(Units(LAYER, (), CHANNELS)))
    along = units(bias=True).directions
    edit = Intervention(units(bias=True), strength=0.5, replacement=torch.tensor([1.0, -2.0]))
    value = before.movedim(1, -1) @ along.read.T + along.bias
    moved = before.movedim(1, -1) - 0.5 * (value - edit.replacement) @ along.write
    assert torch.allclose(activation(model, edit), moved.movedim(-1, 1), atol=1e-5)


def test_unit_vectors_remove_as_channels_do(model):
    eye = torch.eye(CHANNELS)[[5, 2]]
    along = Units(LAYER, (0, 1), 2, directions=Directions(eye, eye))
    assert torch.allclose(
        images(model, Intervention(along)),
        images(model, Intervention(Units(LAYER, (5, 2), CHANNELS))),
        atol=1e-6,
    )


GATE = LinearGate(LAYER, torch.linspace(-1, 1, CHANNELS), 0.1)
EDITS = {
    "plain": Intervention(units()),
    "biased": Intervention(units(bias=True)),
    "rectified": Intervention(units(bias=True, rectified=True), strength=1.5),
    "gated": Intervention(units(), GATE, threshold=0.3, unit_strengths=(0.5, 2.0)),
    "region": Intervention(units(), region=torch.eye(8), replacement=torch.tensor([0.5, 1.0])),
    "two": Intervention(units()) + Intervention(units(seed=1), GATE),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_module_holds_every_edit_to_the_bit_and_is_saved_with_the_network(model, name, tmp_path):
    edit = EDITS[name]
    assert not torch.equal(images(model, edit), images(model))
    baked = edit.bake(model)
    assert torch.equal(images(baked), images(model, edit))
    path = save_checkpoint(tmp_path / "edited.safetensors", baked)
    again, _ = load_checkpoint(path)
    assert torch.equal(images(again), images(model, edit))


@pytest.mark.parametrize("name", EDITS)
def test_a_file_gives_the_same_edit_back(model, name, tmp_path):
    again = Intervention.load(EDITS[name].save(tmp_path / "edit.json"))
    assert torch.equal(images(model, again), images(model, EDITS[name]))


@pytest.mark.parametrize("strengths", [None, (0.5, 1.5)])
def test_linear_directions_fold_into_the_weights_that_read_the_layer(model, strengths):
    edit = Intervention(units(), unit_strengths=strengths)
    folded = edit.bake(model, exact=False)
    assert type(folded) is type(model)
    shapes = [{n: v.shape for n, v in one.state_dict().items()} for one in (model, folded)]
    assert shapes[0] == shapes[1]
    assert torch.allclose(images(folded), images(model, edit), atol=1e-5)


def test_what_does_not_fold_is_refused_with_the_reason(model):
    with pytest.raises(DissectError, match="biases or a rectifier"):
        Intervention(units(bias=True)).bake(model, exact=False)
    with pytest.raises(DissectError, match="no channels"):
        excise(model, units())


def test_controls_are_turned_and_keep_the_gate(model):
    control = EDITS["gated"].control(3)
    assert control.gate is GATE
    assert control.units.directions != EDITS["gated"].units.directions
    assert not torch.equal(images(model, control), images(model, EDITS["gated"]))


def test_half_precision_sums_in_single():
    edit = Intervention(units())
    acts = torch.randn(2, CHANNELS, 4, 4)
    half = edited_activation(edit, acts.half())
    assert half.dtype == torch.float16
    assert torch.allclose(half.float(), edited_activation(edit, acts.half().float()), atol=1e-2)
