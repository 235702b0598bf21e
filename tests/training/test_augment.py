"""Differentiable augmentation: what each change does, and that chance is the seed's and step's."""

from dataclasses import replace

import pytest
import torch
from helpers.training import CPU, TINY, Stripes, same, weights

from dissect._utils.errors import DissectError
from dissect.training import TrainState, load_state, train
from dissect.training.diffaugment import AUGMENTATIONS, augment, augmentations
from dissect.training.state import checkpoints


def test_the_names_are_put_in_order_and_unknown_ones_refused():
    assert augmentations("cutout, colour") == ("colour", "cutout")
    assert augmentations("") == ()
    with pytest.raises(DissectError, match="unknown augmentation 'color': use colour,"):
        augmentations("color")
    with pytest.raises(DissectError, match="unknown augmentation"):
        replace(TINY, augment="flip")


def test_the_same_key_is_the_same_change_and_another_is_another():
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    once = augment(images, AUGMENTATIONS, (0, 7, 0))
    assert torch.equal(once, augment(images, AUGMENTATIONS, (0, 7, 0)))
    assert not torch.equal(once, augment(images, AUGMENTATIONS, (0, 8, 0)))
    assert torch.equal(images, augment(images, (), (0, 7, 0)))


def test_the_halves_of_a_batch_are_changed_as_the_whole_is():
    images = torch.rand(6, 3, 16, 16) * 2 - 1
    whole = augment(images, AUGMENTATIONS, (0, 1, 2))
    halves = [
        augment(images[first : first + 3], AUGMENTATIONS, (0, 1, 2), first=first, total=6)
        for first in (0, 3)
    ]
    assert torch.equal(whole, torch.cat(halves))


def test_translation_moves_pixels_and_leaves_grey_where_nothing_was():
    images = torch.zeros(200, 1, 16, 16)
    images[:, 0, 8, 8] = 1
    moved = augment(images, ("translation",), (3,))
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(200))
    rows = moved.amax((1, 3)).argmax(1) - 8
    columns = moved.amax((1, 2)).argmax(1) - 8
    # An eighth of 16 is 2: every shift from -2 to 2 happens, and no other.
    assert set(rows.tolist()) == set(columns.tolist()) == {-2, -1, 0, 1, 2}
    assert (rows != columns).any()


def test_cutout_takes_a_square_of_half_the_side():
    holes = augment(torch.ones(300, 2, 16, 16), ("cutout",), (5,)) == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    sizes = holes[:, 0].sum((1, 2))
    assert sizes.max() == 64
    # Over the corner a quarter of it is left.
    assert sizes.min() >= 16


def test_colour_keeps_the_place_of_everything():
    images = torch.rand(50, 3, 8, 8) * 2 - 1
    changed = augment(images, ("colour",), (1,))
    moved = changed.mean((1, 2, 3)) - images.mean((1, 2, 3))
    # Saturation and contrast turn about the mean; brightness alone moves it.
    assert moved.abs().max() <= 0.5
    assert moved.std() > 0.2
    grey = images.mean(1).flatten(1) - images.mean((1, 2, 3))[:, None]
    new = changed.mean(1).flatten(1) - changed.mean((1, 2, 3))[:, None]
    contrast = (new * grey).sum(1) / grey.square().sum(1)
    assert (contrast > 0.5 - 1e-4).all()
    assert (contrast < 1.5 + 1e-4).all()
    torch.testing.assert_close(new, grey * contrast[:, None], atol=1e-4, rtol=0)


def test_the_gradient_comes_back_from_where_the_pixel_went():
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64).float().requires_grad_()
    augment(images, ("translation", "cutout"), (9,)).sum().backward()
    assert images.grad is not None
    # Each pixel that is still seen counts once, each that is gone not at all.
    assert set(images.grad.unique().tolist()) <= {0.0, 1.0}
    assert 0 < images.grad.mean() < 1


def test_a_resumed_run_with_augmentation_is_the_unbroken_run(tmp_path):
    config = replace(TINY, augment=",".join(AUGMENTATIONS))
    unbroken = train(TrainState.start(config, CPU), Stripes(), tmp_path / "unbroken")
    train(TrainState.start(replace(config, steps=3), CPU), Stripes(), tmp_path / "broken")
    state = load_state(checkpoints(tmp_path / "broken")[0], CPU)
    state.config = config
    resumed = train(state, Stripes(), tmp_path / "broken")
    assert same(weights(unbroken), weights(resumed))
    plain = train(TrainState.start(TINY, CPU), Stripes(), tmp_path / "plain")
    assert not same(weights(unbroken), weights(plain))
