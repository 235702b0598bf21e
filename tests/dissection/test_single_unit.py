import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

from dissect._utils.errors import DissectError
from dissect.dissection.single_unit import unit_effects
from dissect.models import Generator, latents_for
from dissect.models.batch_norm import fold_batch_norm
from dissect.segmentation import Segmenter
from dissect.surgery import ablated
from dissect.surgery.split import split_at
from dissect.units import Units

EYES = Segmenter(
    ("dark", "grey", "bright"),
    lambda images: (images.mean(1) > -0.1).long() + (images.mean(1) > 0.1).long(),
)


@pytest.fixture
def generator():
    torch.manual_seed(0)
    made = Generator(latent_size=6, width=4, image_size=32, kernel=4).eval()
    with torch.no_grad():
        for layer in (made.layer4x4, made.layer8x8, made.layer16x16, made.rgb):
            layer.conv.weight.normal_(0, 0.4)
        # Two units that are silent on all samples, and on some.
        made.layer8x8.norm.bias[3] = -100.0
        made.layer8x8.norm.bias[5] = -1.5
    return made


@pytest.mark.parametrize("layer", ["layer4x4", "layer8x8", "layer16x16"])
def test_the_fast_way_gives_the_plain_ways_numbers(generator, layer):
    z = latents_for(generator, 70)
    fast = unit_effects(generator, layer, z, EYES)
    plain = unit_effects(generator, layer, z, EYES, fast=False)
    assert np.abs(fast.change - plain.change).max() < 1e-5
    pixels = 70 * 32 * 32
    assert np.abs(fast.after - plain.after).max() <= 1e-4 * pixels
    assert np.abs(fast.both - plain.both).max() <= 1e-4 * pixels
    assert fast.before.tolist() == plain.before.tolist()
    assert fast.before.sum() == pixels
    assert (fast.after.sum(1) == pixels).all()


def test_threads_change_nothing(generator):
    z = latents_for(generator, 3, start=14)  # so few that convolutions would be split otherwise
    found = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        found.append(unit_effects(generator, "layer8x8", z, EYES))
        assert torch.get_num_threads() == threads
    for effects in found[1:]:
        for name in ("before", "after", "both", "change", "silent"):
            assert (getattr(effects, name) == getattr(found[0], name)).all(), name


@pytest.mark.parametrize("fast", [True, False])
def test_images_before_and_after_are_made_with_as_many_threads(generator, fast):
    torch.set_num_threads(3)
    seen = []

    def labels(images):
        seen.append(torch.get_num_threads())
        return EYES.labels(images)

    eyes = Segmenter(EYES.classes, labels)
    unit_effects(generator, "layer8x8", latents_for(generator, 4), eyes, fast=fast)
    assert set(seen) == {1 if fast else 3}


def test_a_silent_unit_does_nothing(generator):
    effects = unit_effects(generator, "layer8x8", latents_for(generator, 20), EYES)
    assert effects.silent[3] == 1.0
    assert effects.change[3] == 0.0
    assert (effects.after[3] == effects.before).all()
    assert effects.removal("bright")[3] == 0.0
    assert effects.mean_iou_kept("bright")[3] == 1.0
    assert effects.change[[k for k in range(8) if k != 3]].max() > 0


def test_every_unit_is_reported(generator):
    ticks = []
    unit_effects(generator, "layer8x8", latents_for(generator, 4), EYES, progress=ticks.append)
    assert ticks == [1] * 8


def test_a_layer_without_a_grid_is_refused(generator):
    with pytest.raises(DissectError, match="no layer 'layer9x9'"):
        unit_effects(generator, "layer9x9", latents_for(generator, 4), EYES)


@pytest.mark.parametrize("kernel", [4, 5])
def test_a_folded_network_computes_the_same(kernel):
    torch.manual_seed(1)
    made = Generator(latent_size=6, width=4, image_size=32, kernel=kernel).eval()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.bias.data.normal_()
        elif isinstance(module, torch.nn.ConvTranspose2d):
            module.weight.data.normal_(0, 0.3)
    made.rgb.conv.bias.data.normal_()
    head, tail = split_at(made, "layer8x8")
    acts = head(latents_for(made, 5))
    light = fold_batch_norm(tail)
    assert (light(acts) - tail(acts)).abs().max() < 1e-5
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in light.modules())
    # The network itself is left as it was.
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in tail.modules())


def test_only_the_units_asked_for_are_removed(generator):
    z = latents_for(generator, 20)
    some = unit_effects(generator, "layer8x8", z, EYES, units=[1, 6])
    every = unit_effects(generator, "layer8x8", z, EYES)
    assert (some.after[[1, 6]] == every.after[[1, 6]]).all()
    assert (some.after[[0, 2]] == some.before).all()
    assert some.change.nonzero()[0].tolist() == [1, 6]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)

    def forward(self, x):
        return x + self.b(self.a(x)).relu()


class Branches(nn.Module):
    def __init__(self, join):
        super().__init__()
        self.a, self.b, self.join = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1), join

    def forward(self, x):
        return self.join(self.a(x).relu(), self.b(x))


class Reads(nn.Module):
    """Reads the weight of a convolution by itself, besides running it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)

    def forward(self, x):
        return self.norm(self.conv(x)) + functional.conv2d(x, self.conv.weight, padding=1)


def _conv():
    return nn.Conv2d(6, 6, 3, padding=1)


def _reused():
    conv = _conv()
    return [conv, nn.BatchNorm2d(6), nn.ReLU(), conv, nn.BatchNorm2d(6)]


def _reused_norm():
    norm = nn.BatchNorm2d(6)
    return [_conv(), norm, nn.ReLU(), _conv(), norm]


def _tied():
    first, second = _conv(), _conv()
    second.weight = first.weight
    return [first, nn.BatchNorm2d(6), nn.ReLU(), second, nn.BatchNorm2d(6)]


NETWORKS = {
    "plain": lambda: [_conv(), nn.BatchNorm2d(6), nn.ReLU()],
    "transposed": lambda: [nn.ConvTranspose2d(6, 6, 4, 2, 1), nn.BatchNorm2d(6), nn.ReLU()],
    "residual": lambda: [Residual()],
    "reused convolution": _reused,
    "reused norm": _reused_norm,
    "tied weights": _tied,
    "old spectral norm": lambda: [nn.utils.spectral_norm(_conv()), nn.BatchNorm2d(6), nn.ReLU()],
    "spectral norm": lambda: [
        nn.utils.parametrizations.spectral_norm(_conv()),
        nn.BatchNorm2d(6),
        nn.ReLU(),
    ],
    "old weight norm": lambda: [nn.utils.weight_norm(_conv()), nn.BatchNorm2d(6), nn.ReLU()],
    "weight norm": lambda: [
        nn.utils.parametrizations.weight_norm(_conv()),
        nn.BatchNorm2d(6),
        nn.ReLU(),
    ],
    "pruned": lambda: [prune.l1_unstructured(_conv(), "weight", 0.5), nn.BatchNorm2d(6)],
    "group norm": lambda: [_conv(), nn.GroupNorm(2, 6), nn.ReLU()],
    "instance norm": lambda: [_conv(), nn.InstanceNorm2d(6, affine=True), nn.ReLU()],
    "no norm": lambda: [_conv(), nn.LeakyReLU(0.2)],
    "two branches": lambda: [Branches(torch.add)],
    "concatenation": lambda: [Branches(lambda *x: torch.cat(x, 1)), nn.Conv2d(12, 6, 1)],
    "up-sampling": lambda: [nn.Upsample(scale_factor=2, mode="bilinear"), _conv(), nn.ReLU()],
    "weights read by themselves": lambda: [Reads()],
    "grouped": lambda: [nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6), nn.ReLU()],
    "circular": lambda: [nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"), nn.ReLU()],
}


def _network(name):
    torch.manual_seed(0)
    first = nn.Sequential(nn.Unflatten(1, (4, 2, 2)), nn.ConvTranspose2d(4, 6, 4, 2, 1), nn.ReLU())
    model = nn.Sequential(first, *NETWORKS[name](), nn.Conv2d(6, 3, 3, padding=1), nn.Tanh())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model.eval()


def _check_against_naive(model, z):
    with torch.no_grad():
        before = model(z)
        wanted = []
        for unit in range(6):
            keep = (torch.arange(6) != unit).float().reshape(1, -1, 1, 1)
            handle = model[0].register_forward_hook(lambda m, i, o, keep=keep: o * keep)
            wanted.append(float((model(z) - before).abs().mean()))
            handle.remove()
    assert max(wanted) > 1e-3
    for fast in (False, True):
        found = unit_effects(model, "0", z, EYES, fast=fast).change
        assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("name", NETWORKS)
def test_effects_are_those_of_a_loop_by_hand(name):
    _check_against_naive(_network(name), torch.randn(6, 16))


def test_effects_are_measured_in_open_blocks():
    model = _network("plain")
    with ablated(model, Units("3", (0, 2), 6)):
        _check_against_naive(model, torch.randn(6, 16))


@pytest.mark.parametrize("index", [1, 2, 4])
def test_effects_keep_the_hooks_of_others(index):
    model = _network("plain")
    model[index].register_forward_hook(lambda m, i, o: 2 * o.clamp(-0.1, 0.3))
    _check_against_naive(model, torch.randn(6, 16))


def test_a_fast_way_that_gives_other_images_steps_aside_with_a_word(monkeypatch):
    def wrong(self, unit, rows):
        yield slice(0, len(rows)), torch.zeros(len(rows), 3, 4, 4)

    model, z = _network("plain"), torch.randn(6, 16)
    plain = unit_effects(model, "0", z, EYES, fast=False)
    monkeypatch.setattr("dissect.dissection.single_unit.Tail.without", wrong)
    with pytest.warns(UserWarning, match="every unit takes whole passes"):
        found = unit_effects(model, "0", z, EYES)
    assert np.array_equal(found.change, plain.change)
