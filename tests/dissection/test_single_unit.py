import numpy as np
import pytest
import torch

from dissect._utils.errors import DissectError
from dissect.dissection.single_unit import unit_effects
from dissect.models import Generator, latents_for
from dissect.models.batch_norm import fold_batch_norm
from dissect.segmentation import Segmenter
from dissect.surgery.split import split_at

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
