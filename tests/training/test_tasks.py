"""What holds of every auxiliary task of the discriminator."""

from dataclasses import replace

import pytest
import torch
from helpers.training import CPU, TINY, Stripes, same, weights

from dissect._utils.errors import DissectError
from dissect.training import TrainState, load_state, train
from dissect.training.config import TrainConfig
from dissect.training.state import checkpoints
from dissect.training.tasks import TASKS

BOTH = replace(TINY, rotations=1.0, contrast=0.5)


@pytest.mark.parametrize("name", TASKS)
def test_the_weight_of_a_task_is_a_setting_and_is_off(name):
    assert getattr(TrainConfig(), name) == 0
    state = TrainState.start(replace(TINY, **{name: 1.0}), CPU)
    assert list(state.tasks) == [name]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(name, weight):
    with pytest.raises(DissectError, match=name):
        replace(TINY, **{name: weight})


@pytest.mark.parametrize("name", TASKS)
def test_a_share_of_a_batch_is_asked_what_the_whole_batch_is(name):
    images = torch.rand(6, 3, 16, 16) * 2 - 1
    whole, right = TASKS[name].pose(images, (3, 1), first=0, total=6)
    shares = [
        TASKS[name].pose(images[rows], (3, 1), first=rows.start, total=6)
        for rows in (slice(0, 2), slice(2, 4), slice(4, 6))
    ]
    # Of two pictures of an image the first ones come first.
    parts = zip(*(pictures.split(2) for pictures, _ in shares), strict=True)
    torch.testing.assert_close(torch.cat([one for part in parts for one in part]), whole)
    # The answer is a picture's own, or a place among those of the whole batch.
    if len(right) == 6:
        assert torch.cat([answers for _, answers in shares]).tolist() == right.tolist()
    else:
        assert all(torch.equal(answers, right) for _, answers in shares)


def test_two_tasks_are_learnt_and_neither_is_saved_with_the_network(tmp_path):
    begun = TrainState.start(BOTH, CPU).tensors()
    state = train(TrainState.start(BOTH, CPU), Stripes(), tmp_path)
    for name in TASKS:
        heads = [key for key in begun if key.startswith(f"{name}.")]
        assert heads
        assert all(not torch.equal(begun[key], state.tensors()[key]) for key in heads)
    saved = set(state.discriminator.state_dict())
    assert saved == set(TrainState.start(TINY, CPU).discriminator.state_dict())


def test_a_resumed_run_is_the_unbroken_run(tmp_path):
    unbroken = train(TrainState.start(BOTH, CPU), Stripes(), tmp_path / "unbroken")
    train(TrainState.start(replace(BOTH, steps=3), CPU), Stripes(), tmp_path / "broken")
    state = load_state(checkpoints(tmp_path / "broken")[0], CPU)
    state.config = BOTH
    assert same(weights(unbroken), weights(train(state, Stripes(), tmp_path / "broken")))
