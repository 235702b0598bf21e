from collections import OrderedDict

import pytest
import torch
from torch import nn

from dissect._utils.errors import DissectError
from dissect.hooks import edit, record
from dissect.models import Generator, latents_for
from dissect.surgery import ablated
from dissect.surgery.split import split_at
from dissect.units import Units


class Counted(nn.Module):
    """Doubles, and counts its runs."""

    def __init__(self):
        super().__init__()
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return 2 * x


class Wrapper(nn.Module):
    """A model whose forward is more than its children one after the other."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.last = nn.Tanh()

    def forward(self, x):
        return self.last(self.inner(x)) + x


class Halves:
    """A gate that is open in the left half of the grid."""

    def probability(self, activations):
        open_cells = torch.zeros_like(activations[:, 0])
        open_cells[:, :, : activations.shape[3] // 2] = 1
        return open_cells


@pytest.fixture
def generator():
    torch.manual_seed(0)
    made = Generator(latent_size=6, width=8, image_size=32, kernel=4).eval()
    with torch.no_grad():
        for layer in made.children():
            layer.conv.weight.normal_(0, 0.3)
    return made


@pytest.mark.parametrize("layer", ["layer4x4", "layer8x8", "layer16x16", "layer8x8.norm", "rgb"])
def test_the_tail_draws_the_same_images_to_the_bit(generator, layer):
    z = latents_for(generator, 9)
    head, tail = split_at(generator, layer)
    acts = head(z)
    assert tail is not generator
    with torch.inference_mode():
        assert torch.equal(tail(acts), generator(z))


@pytest.mark.parametrize("where", [None, Halves()])
@pytest.mark.parametrize("strength", [1.0, 1.5])
def test_an_edit_of_the_layer_acts_alike_in_the_tail(generator, where, strength):
    z = latents_for(generator, 9)
    units = Units("layer8x8", (0, 3, 5), 16)
    head, tail = split_at(generator, "layer8x8")
    acts = head(z)
    kept = acts.clone()
    options = {"where": where, "strength": strength}
    with torch.inference_mode():
        with ablated(tail, units, **options):
            fast = tail(acts)
        with ablated(generator, units, **options):
            plain = generator(z)
        assert torch.equal(fast, plain)
        assert not torch.equal(fast, generator(z))
    # What was recorded once serves every edit: none may write to it.
    assert torch.equal(acts, kept)


def test_what_comes_before_the_layer_runs_once():
    before, after = Counted(), Counted()
    model = nn.Sequential(OrderedDict(before=before, layer=nn.ReLU(), after=after)).eval()
    head, tail = split_at(model, "layer")
    acts = head(torch.ones(3, 2))
    for _ in range(5):
        assert tail(acts).tolist() == [[4.0, 4.0]] * 3
    assert (before.runs, after.runs) == (1, 5)


def test_layers_after_it_are_there_by_their_names(generator):
    _, tail = split_at(generator, "layer8x8")
    acts = torch.ones(1, 16, 8, 8)
    with torch.no_grad(), record(tail, "layer16x16.conv") as seen:
        tail(acts)
    assert seen["layer16x16.conv"].shape == (1, 8, 16, 16)
    assert tail.layer16x16 is generator.layer16x16


def test_a_model_that_does_more_than_its_children_is_run_whole():
    model = Wrapper(nn.Sequential(nn.Linear(2, 2), nn.ReLU())).eval()
    z = torch.ones(3, 2)
    head, tail = split_at(model, "inner.0")
    assert tail is model
    assert head(z) is z


def test_a_subclass_with_its_own_forward_is_run_whole(generator):
    class Brighter(Generator):
        def forward(self, z):
            return super().forward(z) + 1

    model = Brighter(latent_size=6, width=8, image_size=32)
    assert split_at(model, "layer8x8")[1] is model


def test_a_module_that_runs_twice_is_run_whole():
    shared = nn.ReLU()
    model = nn.Sequential(shared, nn.Tanh(), shared)
    assert split_at(model, "0")[1] is model


def test_a_model_is_not_split_between_several_layers(generator):
    assert split_at(generator, "layer8x8", "layer16x16")[1] is generator
    with pytest.raises(DissectError, match="no layer 'layer9x9'"):
        split_at(generator, "layer8x8", "layer9x9")


def test_hooks_around_the_layer_are_not_passed_over(generator):
    handle = generator.register_forward_hook(lambda module, inputs, output: output + 1)
    z = latents_for(generator, 2)
    head, tail = split_at(generator, "layer8x8")
    inputs = head(z)
    with torch.inference_mode():
        assert torch.equal(tail(inputs), generator(z))
    handle.remove()
    assert split_at(generator, "layer8x8")[1] is not generator


def test_an_edit_that_is_open_before_the_layer_is_in_what_was_recorded(generator):
    z = latents_for(generator, 2)
    with torch.inference_mode(), edit(generator, {"layer4x4": lambda x: 0 * x}):
        head, tail = split_at(generator, "layer8x8")
        acts = head(z)
        assert torch.equal(tail(acts), generator(z))


def test_no_such_layer_is_one_line(generator):
    with pytest.raises(DissectError, match="no layer 'layer9x9'"):
        split_at(generator, "layer9x9")
