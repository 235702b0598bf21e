"""The discriminator's auxiliary task: by how many quarters was an image turned?"""

from dataclasses import replace

import pytest
import torch
from test_training import CPU, TINY, Stripes, same, weights

from dissect.errors import DissectError
from dissect.processes import World
from dissect.training import TrainState, load_state, train
from dissect.training.rotations import RotationReader, turned
from dissect.training.state import checkpoints

TURNING = replace(TINY, rotations=1.0)


def test_images_are_turned_by_the_quarters_that_are_told():
    images = torch.rand(40, 3, 8, 8)
    found, quarters = turned(images, (0, 1))
    assert sorted(set(quarters.tolist())) == [0, 1, 2, 3]
    for image, result, quarter in zip(images, found, quarters.tolist(), strict=True):
        assert torch.equal(result, torch.rot90(image, quarter, (1, 2)))
    again = turned(images, (0, 1))
    assert torch.equal(again[0], found)
    assert not torch.equal(turned(images, (0, 2))[1], quarters)


def test_the_reader_learns_which_way_is_up_with_the_discriminators_convolutions(tmp_path):
    config = replace(TURNING, steps=60, rotations=5.0)
    state = TrainState.start(config, CPU)
    assert isinstance(state.rotations, RotationReader)
    conv = state.discriminator.get_submodule("layer8x8.conv")
    assert conv in set(state.rotations.modules())
    before = accuracy(state)
    train(state, Stripes(), tmp_path)
    # Stripes look the same upside down: of four turns two can be told from the others.
    assert before < 0.4 < accuracy(state)


def accuracy(state):
    images = torch.from_numpy(Stripes().images(range(16))).permute(0, 3, 1, 2) / 127.5 - 1
    pictures, quarters = turned(images.repeat(4, 1, 1, 1), (7,))
    with torch.no_grad():
        return float((state.rotations(pictures).argmax(1) == quarters).float().mean())


def test_without_the_task_nothing_changes(tmp_path):
    plain = train(TrainState.start(TINY, CPU), Stripes(), tmp_path / "plain")
    assert not any(name.startswith("rotations") for name in plain.tensors())
    turning = train(TrainState.start(TURNING, CPU), Stripes(), tmp_path / "turning")
    theirs = turning.tensors()
    # The weights begin alike; the discriminator learns another thing besides.
    name = "discriminator.layer8x8.conv.weight"
    start = TrainState.start(TURNING, CPU).tensors()
    assert torch.equal(start[name], TrainState.start(TINY, CPU).tensors()[name])
    assert not torch.equal(theirs[name], plain.tensors()[name])


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(DissectError, match="rotations"):
        replace(TINY, rotations=weight)


def test_several_processes_are_refused(tmp_path):
    with pytest.raises(DissectError, match="one process"):
        train(TrainState.start(TURNING, CPU), Stripes(), tmp_path, world=World(0, 2))


def test_a_resumed_run_is_the_unbroken_run(tmp_path):
    unbroken = train(TrainState.start(TURNING, CPU), Stripes(), tmp_path / "unbroken")
    train(TrainState.start(replace(TURNING, steps=3), CPU), Stripes(), tmp_path / "broken")
    state = load_state(checkpoints(tmp_path / "broken")[0], CPU)
    state.config = TURNING
    assert same(weights(unbroken), weights(train(state, Stripes(), tmp_path / "broken")))
