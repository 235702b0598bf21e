"""Training that begins with finished networks, as wide as they were or wider."""

import shutil
from dataclasses import replace

import pytest
import torch
from helpers.command_line import run
from helpers.training import CPU, TINY, Stripes, same, weights

from dissect._utils.errors import DissectError
from dissect.models import Discriminator, Generator, load
from dissect.training import TrainState, begin_with, load_state, save_networks, train
from dissect.training.beginning import widen
from dissect.training.state import checkpoints


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    state = train(TrainState.start(TINY, CPU), Stripes(), folder)
    save_networks(state, Stripes(), folder)
    return folder


def images(n=5):
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1


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
        widen(narrow, wide)
        narrow.train(training)
        wide.train(training)
        torch.testing.assert_close(wide(given), narrow(given), rtol=1e-4, atol=1e-5)


def test_units_that_are_added_are_drawn_anew_and_see_the_others():
    torch.manual_seed(0)
    narrow, wide = Discriminator(4, 16), Discriminator(6, 16)
    drawn = {name: value.clone() for name, value in wide.state_dict().items()}
    widen(narrow, wide)
    was, now = narrow.layer4x4[0].weight, wide.layer4x4[0].weight
    assert torch.equal(now[:8, :4], was)
    assert not now[:8, 4:].any()
    assert torch.equal(now[8:], drawn["layer4x4.conv.weight"][8:])
    assert now[8:, :4].all()


def test_an_equal_network_is_a_copy():
    narrow, wide = Discriminator(4, 16), Discriminator(4, 16)
    widen(narrow, wide)
    theirs = narrow.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in wide.state_dict().items())


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (Discriminator(4, 16), Discriminator(3, 16)),
        (Discriminator(4, 16, kernel=4), Discriminator(4, 16, kernel=5)),
        (Discriminator(4, 32), Discriminator(4, 16)),
        (Discriminator(4, 16), Discriminator(4, 32)),
        (Generator(10, 4, 16), Generator(10, 2, 16)),
        (Generator(10, 4, 16, kernel=4), Generator(10, 4, 16, kernel=5)),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(narrow, wide):
    before = {name: value.clone() for name, value in wide.state_dict().items()}
    with pytest.raises(DissectError, match=r"cannot begin with that one"):
        widen(narrow, wide)
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items())


def test_all_that_was_added_learns(finished, tmp_path):
    config = replace(TINY, discriminator_width=2 * TINY.discriminator_width)
    state = TrainState.start(config, CPU)
    begin_with(state, finished)
    narrow = load(finished / "discriminator.safetensors", network="discriminator")
    torch.testing.assert_close(state.discriminator.eval()(images()), narrow(images()))
    before = {name: value.clone() for name, value in state.discriminator.named_parameters()}
    train(state, Stripes(), tmp_path)
    for name, value in state.discriminator.named_parameters():
        assert (value != before[name]).float().mean() > 0.99, name


def test_a_resumed_run_needs_the_folder_no_more(finished, tmp_path):
    config = replace(TINY, begin_from=str(tmp_path / "gone"), discriminator_width=6)

    def begun():
        state = TrainState.start(config, CPU)
        begin_with(state, finished)
        return state

    unbroken = train(begun(), Stripes(), tmp_path / "unbroken")
    broken = begun()
    broken.config = replace(config, steps=3)
    train(broken, Stripes(), tmp_path / "broken")
    state = load_state(checkpoints(tmp_path / "broken")[0], CPU)
    assert state.config.begin_from == config.begin_from
    state.config = config
    assert same(weights(unbroken), weights(train(state, Stripes(), tmp_path / "broken")))


WORDS = ["train", "bedrooms", "--images", 8, "--image-size", 16, "--steps", 1, "--batch-size", 8]
WORDS += ["--width", 4, "--kernel", 4, "--latent-size", 5]


def test_the_command_begins_with_a_folder_and_says_so_in_the_card(finished, tmp_path, capsys):
    out = tmp_path / "out"
    words = [*WORDS, "--begin-from", finished, "--discriminator-width", 8]
    code, _, error = run(capsys, *words, "--learning-rate", 1e-12, "--out", out)
    assert code == 0, error
    state = load_state(checkpoints(out)[0], CPU)
    assert state.config.begin_from == str(finished.absolute())
    was = load(finished / "discriminator.safetensors", network="discriminator").state_dict()
    now = state.discriminator.state_dict()["layer4x4.conv.weight"]
    torch.testing.assert_close(now[:8, :4], was["layer4x4.conv.weight"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--begin-from", "nowhere", "--discriminator-width", 4], "nowhere"),
        (["--begin-from", None, "--discriminator-width", 2], "widths at least as large"),
        (["--begin-from", None, "--discriminator-width", 4, "--kernel", 5], "cannot begin"),
    ],
)
def test_a_folder_that_does_not_fit_is_one_line(words, message, finished, tmp_path, capsys):
    given = [finished if word is None else word for word in words]
    code, _, error = run(capsys, *WORDS, *given, "--out", tmp_path / "out")
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_network_is_one_line(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "damaged")
    path = tmp_path / "damaged" / "discriminator.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    words = ["--begin-from", tmp_path / "damaged", "--discriminator-width", 4]
    code, _, error = run(capsys, *WORDS, *words, "--out", tmp_path / "out")
    assert code == 2
    assert str(path) in error
    assert error.count("\n") == 1
