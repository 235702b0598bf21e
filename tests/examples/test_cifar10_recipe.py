"""The recipe of CIFAR-10 at a toy size: tasks, wider networks, resuming, and its one command."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from helpers.labelled import pictures, write_batches
from helpers.processes import ROOT, environment
from helpers.training import CPU, TINY, Stripes, same, weights

from dissect._utils.errors import DissectError
from dissect.models import Discriminator, Generator, load
from dissect.training import TrainState, load_state, save_networks, train
from dissect.training.state import checkpoints
from dissect.training.step import train_step

RECIPE = ROOT / "examples" / "recipes" / "cifar10"
sys.path.insert(0, str(RECIPE))
import net2net  # noqa: E402
import tasks  # noqa: E402
from train_cifar10 import train_part  # noqa: E402

sys.path.remove(str(RECIPE))


def test_images_are_turned_by_the_quarters_that_are_returned():
    images = torch.rand(40, 3, 8, 8)
    turned, quarters = tasks.rotate(images, (0, 1))
    assert sorted(set(quarters.tolist())) == [0, 1, 2, 3]
    for image, result, quarter in zip(images, turned, quarters.tolist(), strict=True):
        assert torch.equal(result, torch.rot90(image, quarter, (1, 2)))
    assert torch.equal(tasks.rotate(images, (0, 1))[0], turned)
    assert not torch.equal(tasks.rotate(images, (0, 2))[1], quarters)


def test_views_are_two_of_each_image_and_depend_on_the_key_alone():
    images = torch.rand(6, 3, 32, 32) * 2 - 1
    views = tasks.two_views(images, (3, 1))
    assert views.shape == (12, 3, 32, 32)
    assert views.abs().max() <= 1
    assert torch.equal(tasks.two_views(images, (3, 1)), views)
    assert not torch.equal(tasks.two_views(images, (3, 2)), views)
    assert not torch.equal(views[:6], views[6:])


def test_views_are_mirrored_cropped_and_greyed_at_random():
    # Red grows to the right, green downwards: the slopes of a view show what was done.
    ramp = torch.linspace(-1, 1, 32)
    image = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.zeros(32, 32)])
    views = tasks.two_views(image.expand(400, 3, 32, 32), (5,))
    slope = (views[:, 0, :, 31] - views[:, 0, :, 0]).mean(1)
    assert 0.4 < float((slope < 0).float().mean()) < 0.6
    down = (views[:, 1, 31] - views[:, 1, 0]).mean(1)
    grey = (views - views.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-5
    assert 0.15 < float(grey.float().mean()) < 0.25
    assert (down[~grey] > 0).all()  # never upside down


def test_the_contrast_loss_is_that_of_simclr_worked_by_hand():
    # Two images; the embeddings of each one's views are alike, at right angles to the other's.
    embeddings = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
    right, wrong = math.exp(1 / 0.2), 1.0
    expected = -math.log(right / (right + 2 * wrong))
    assert float(tasks.contrast_loss(embeddings)) == pytest.approx(expected, rel=1e-5)


BOTH = {"rotations": 1.0, "contrast": 5.0}


def test_the_tasks_are_learned_with_the_discriminators_convolutions():
    state = TrainState.start(replace(TINY, learning_rate=1e-3), CPU)
    learned = tasks.AuxiliaryTasks(state, BOTH)
    conv = state.discriminator.get_submodule("layer8x8.conv")
    assert all(conv in set(network.modules()) for network in learned.networks.values())
    names = set(state.tensors())
    torch.manual_seed(0)
    # Large patches of colour, by which an image can be recognised in a view.
    real = (torch.rand(8, 3, 2, 2) * 2 - 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    z = torch.rand(8, 5) * 2 - 1

    def loss():
        with torch.no_grad():
            return float(learned.loss(real))

    state.step = 999
    before = loss()
    for step in range(100):
        state.step = step
        learned.zero_grad()
        train_step(state, real, z, auxiliary_loss=learned.loss)
        learned.step(1e-3)
    state.step = 999
    assert loss() < 0.8 * before
    # The heads are not part of what is saved.
    assert {name for name in state.tensors() if "optimizer" not in name} == names


def test_an_unknown_task_is_refused():
    with pytest.raises(DissectError, match="unknown task 'jigsaw'"):
        tasks.AuxiliaryTasks(TrainState.start(TINY, CPU), {"jigsaw": 1.0})


class Failing(Stripes):
    """Stripes of which some batch cannot be read."""

    def __init__(self, at):
        self.left = at

    def images(self, indices):
        self.left -= 1
        if self.left == 0:
            raise DissectError("the disk is gone")
        return super().images(indices)


def test_a_part_that_was_stopped_is_the_unbroken_part_bit_for_bit(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train_part(TINY, BOTH, Stripes(), whole, CPU, save_every=2)
    with pytest.raises(DissectError, match="disk is gone"):
        train_part(TINY, BOTH, Failing(6), broken, CPU, save_every=2)
    assert load_state(checkpoints(broken)[0], CPU).step == 4
    train_part(TINY, BOTH, Stripes(), broken, CPU, save_every=2)
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in broken.iterdir())
    assert sum(name.startswith("heads-") for name in names) == 2
    assert same(*(weights(load_state(checkpoints(folder)[0], CPU)) for folder in (whole, broken)))
    heads = f"heads-{TINY.steps:07d}.safetensors"
    assert (whole / heads).read_bytes() == (broken / heads).read_bytes()
    # A finished part is left as it is.
    train_part(TINY, BOTH, Failing(1), whole, CPU)
    with pytest.raises(DissectError, match="another training"):
        (whole / "discriminator.safetensors").unlink()
        train_part(replace(TINY, seed=1), BOTH, Stripes(), whole, CPU)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    state = train(TrainState.start(TINY, CPU), Stripes(), folder)
    save_networks(state, Stripes(), folder)
    return folder


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_wider_networks_begin_with_what_the_narrow_ones_compute(times, training):
    torch.manual_seed(0)
    x, z = torch.rand(6, 3, 16, 16) * 2 - 1, torch.rand(6, 10) * 2 - 1
    for make, given in (
        (lambda width: Discriminator(width, 16, kernel=4), x),
        (lambda width: Generator(10, width, 16), z),
    ):
        narrow, wide = make(4).train(), make(4 * times).train()
        narrow(given)  # statistics that are not those of a new network
        net2net.net2wider(narrow, wide)
        narrow.train(training)
        wide.train(training)
        torch.testing.assert_close(wide(given), narrow(given), rtol=1e-4, atol=1e-5)


def test_units_that_are_added_keep_their_weights_and_see_the_others():
    torch.manual_seed(0)
    narrow, wide = Discriminator(4, 16), Discriminator(6, 16)
    drawn = {name: value.clone() for name, value in wide.state_dict().items()}
    net2net.net2wider(narrow, wide)
    was, now = narrow.layer4x4[0].weight, wide.layer4x4[0].weight
    assert torch.equal(now[:8, :4], was)
    assert not now[:8, 4:].any()
    assert torch.equal(now[8:], drawn["layer4x4.conv.weight"][8:])
    assert now[8:, :4].all()


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (Discriminator(4, 16), Discriminator(3, 16)),
        (Discriminator(4, 16, kernel=4), Discriminator(4, 16, kernel=5)),
        (Discriminator(4, 32), Discriminator(4, 16)),
        (Discriminator(4, 16), Discriminator(4, 32)),
        (Generator(10, 4, 16), Generator(10, 2, 16)),
    ],
)
def test_networks_that_do_not_fit_are_refused_and_nothing_changes(narrow, wide):
    before = {name: value.clone() for name, value in wide.state_dict().items()}
    with pytest.raises(DissectError, match="cannot start from that one"):
        net2net.net2wider(narrow, wide)
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items())


def test_all_that_was_added_learns(finished, tmp_path):
    config = replace(TINY, discriminator_width=2 * TINY.discriminator_width)
    state = TrainState.start(config, CPU)
    net2net.init_from(state, finished)
    narrow = load(finished / "discriminator.safetensors", network="discriminator")
    images = torch.rand(5, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(state.discriminator.eval()(images), narrow(images))
    before = {name: value.clone() for name, value in state.discriminator.named_parameters()}
    train(state, Stripes(), tmp_path)
    for name, value in state.discriminator.named_parameters():
        assert (value != before[name]).float().mean() > 0.99, name


def test_one_command_makes_the_row(tmp_path):
    write_batches(tmp_path / "c", *pictures(200), *pictures(50, seed=1))
    words = [f"cifar10:{tmp_path / 'c'}", "--out", tmp_path / "out", "--c", "1e-4,1e-3"]
    words += ["--first-steps", 3, "--second-steps", 2, "--save-every", 2]
    words += ["--width", 4, "--discriminator-width", 4, "--second-discriminator-width", 6]
    ended = subprocess.run(
        [sys.executable, RECIPE / "train_cifar10.py", *map(str, words), "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=environment(DISSECT_CACHE=str(tmp_path / "cache")),
    )
    assert ended.returncode == 0, ended.stderr
    (row,) = json.loads((tmp_path / "out" / "classify.json").read_text())["rows"]
    assert row["row"] == "discriminator"
    assert row["evaluation"]["n_features"] == 16 * (6 + 12 + 24)
    assert 0 < row["evaluation"]["accuracy"] <= 1
