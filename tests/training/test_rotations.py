"""The discriminator's auxiliary task: by how many quarters was an image turned?"""

from dataclasses import replace

import torch
from helpers.training import CPU, TINY, Stripes

from dissect.training import TrainState, train
from dissect.training.rotations import turned

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
    conv = state.discriminator.get_submodule("layer8x8.conv")
    assert conv in set(state.tasks["rotations"].reader.modules())
    before = accuracy(state)
    train(state, Stripes(), tmp_path)
    # Stripes look the same upside down: of four turns two can be told from the others.
    assert before < 0.4 < accuracy(state)


def accuracy(state):
    images = torch.from_numpy(Stripes().images(range(16))).permute(0, 3, 1, 2) / 127.5 - 1
    pictures, quarters = turned(images.repeat(4, 1, 1, 1), (7,))
    with torch.no_grad():
        read = state.tasks["rotations"].reader(pictures)
        return float((read.argmax(1) == quarters).float().mean())


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
