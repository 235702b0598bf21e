"""The discriminator's auxiliary task: which two of many views show the same image?"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from helpers.training import CPU, TINY, Stripes

from dissect._utils.distributed import World
from dissect.training import TrainState, train
from dissect.training.contrast import contrast_loss, other_views, views


def test_views_are_two_of_each_image_and_depend_on_the_key_alone():
    images = torch.rand(6, 3, 32, 32) * 2 - 1
    found = views(images, (3, 1))
    assert found.shape == (12, 3, 32, 32)
    assert found.abs().max() <= 1
    assert torch.equal(views(images, (3, 1)), found)
    assert not torch.equal(views(images, (3, 2)), found)
    assert not torch.equal(found[:6], found[6:])


def test_a_view_is_a_part_of_its_image_and_of_no_other():
    # Of an image of one grey every part is of one grey, whatever is done to its colours.
    images = torch.linspace(-0.5, 0.5, 5)[:, None, None, None].expand(5, 3, 16, 16)
    found = views(images, (0,))
    spread = found.flatten(1).max(1).values - found.flatten(1).min(1).values
    assert spread.max() < 1e-5


def test_views_are_mirrored_cropped_and_greyed_by_chance():
    # Red grows to the right, green downwards: a view tells by its slopes what was done.
    ramp = torch.linspace(-1, 1, 32)
    one = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.zeros(32, 32)])
    found = views(one.expand(400, 3, 32, 32), (5,))
    slope = (found[:, 0, :, 31] - found[:, 0, :, 0]).mean(1)
    assert 0.4 < float((slope < 0).float().mean()) < 0.6
    down = (found[:, 1, 31] - found[:, 1, 0]).mean(1)
    grey = (found - found.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-5
    assert 0.15 < float(grey.float().mean()) < 0.25
    assert (down[~grey] > 0).all()  # never upside down


def test_the_loss_is_that_of_simclr_worked_by_hand():
    # Two images; the views of each read alike, at right angles to the other's.
    read = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
    loss = contrast_loss(read, other_views(2, CPU), World())
    right, wrong = torch.tensor(1 / 0.2).exp(), torch.tensor(1.0)
    assert float(loss) == pytest.approx(-float((right / (right + 2 * wrong)).log()), rel=1e-5)
    assert other_views(2, CPU).tolist() == [2, 3, 0, 1]


def test_processes_that_read_a_share_each_learn_as_one_that_reads_all(monkeypatch):
    # Three threads stand for three processes, with two images each: six first views, six second.
    pictures = torch.randn(12, 7)
    weights = torch.randn(7, 4)
    barrier, told, own = threading.Barrier(3), [None] * 3, threading.local()

    def exchanged(_, values):
        told[own.rank] = values
        barrier.wait(30)
        return torch.stack(told)

    def gradient(rank, world, rows):
        own.rank = rank
        head = weights.clone().requires_grad_()
        contrast_loss(pictures[rows] @ head, other_views(6, CPU), world).backward()
        return head.grad

    wanted = gradient(0, World(), slice(None))
    monkeypatch.setattr(World, "exchanged", exchanged)
    rows = [[2 * rank, 2 * rank + 1, 6 + 2 * rank, 7 + 2 * rank] for rank in range(3)]
    with ThreadPoolExecutor(3) as pool:
        worlds = [World(rank, 3) for rank in range(3)]
        found = list(pool.map(gradient, range(3), worlds, rows))
    torch.testing.assert_close(torch.stack(found).mean(0), wanted)


def test_the_loss_falls_as_the_discriminator_learns_to_know_images_again(tmp_path):
    config = replace(TINY, steps=60, contrast=5.0)
    state = TrainState.start(config, CPU)
    conv = state.discriminator.get_submodule("layer8x8.conv")
    assert conv in set(state.tasks["contrast"].reader.modules())
    before = loss(state)
    train(state, Stripes(), tmp_path)
    assert loss(state) < 0.8 * before


def loss(state):
    images = torch.from_numpy(Stripes().images(range(16))).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        read = state.tasks["contrast"].reader(views(images, (7,)))
    return float(contrast_loss(read, other_views(16, CPU), World()))


def test_a_head_of_two_layers_reads_alike_in_bfloat16():
    state = TrainState.start(replace(TINY, contrast=1.0), CPU)
    reader, images = state.tasks["contrast"].reader, torch.rand(8, 3, 16, 16)
    plain = reader(images)
    with torch.autocast("cpu", torch.bfloat16):
        quick = reader(images)
    torch.testing.assert_close(
        quick.float(), plain, rtol=0.1, atol=0.05 * float(plain.detach().abs().max())
    )
