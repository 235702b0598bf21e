"""Processes of one machine: pipes between them, and weights that all of them see."""

import os
import signal
from pathlib import Path

import pytest
import torch
from helpers.processes import Pair
from helpers.training import CPU, TINY

from dissect._utils.distributed import World
from dissect.training import TrainState, load_state
from dissect.training.shared_weights import SharedWeights
from dissect.training.state import checkpoints

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux alone has these")


def run(code, *arguments, size=2):
    """What each process printed, all having ended well."""
    processes = Pair(code, *arguments, size=size, LOCAL_WORLD_SIZE=str(size))
    said = []
    for status, out, err in processes.end():
        assert status == 0, err
        said.append(out)
    return said


EXCHANGING = """
import torch
from dissect._utils.distributed import World, joined

with joined(World.of_environment()) as world:
    assert world._pipes is not None
    # More than a pipe holds, and of several types.
    for whole in (torch.linspace(0, 1, 50_000), torch.arange(6).view(2, 3) + 2**40, torch.zeros(0)):
        together = world.exchanged(whole * (world.rank + 1))
        assert together.dtype == whole.dtype
        for rank in range(world.size):
            assert torch.equal(together[rank], whole * (rank + 1)), rank
    for _ in range(1000):
        world.meet()
"""


@pytest.mark.parametrize("size", [2, 3])
def test_what_goes_through_pipes_arrives_whole_and_by_rank(size):
    run(EXCHANGING, size=size)


# Three steps of a training whose weights all see, then of one whose gradients are sent about.
STEPS = """
import os, sys, torch
from dataclasses import replace
from dissect._utils.distributed import World, joined
from dissect.training.config import TrainConfig
from dissect.training.distributed import synchronized
from dissect.training.shared_weights import SharedWeights
from dissect.training.state import TrainState, save_state
from dissect.training.step import Players, train_step
from pathlib import Path

torch.set_num_threads(1)
CONFIG = TrainConfig(
    image_size=16, batch_size=12, generator_width=6, discriminator_width=5, latent_size=5, kernel=4,
    rotations=1.0, contrast=1.0,
)
real = torch.rand(3, 12, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
z = torch.rand(3, 12, 5, generator=torch.Generator().manual_seed(2)) * 2 - 1

def trained(world, name, shared):
    state = TrainState.start(CONFIG, torch.device("cpu"))
    with synchronized(state.generator, state.discriminator, world=world):
        players = Players.of(state, world)
        found = getattr(players.step, "__self__", None)
        assert isinstance(found, SharedWeights) == shared, players.step
        rows = world.share_of(12)
        for step in range(3):
            train_step(state, real[step, rows], z[step, rows], players)
    mine = {f"{world.rank} {name}": value for name, value in state.tensors().items()}
    everyone = world.gathered(mine)
    for key, value in everyone.items():
        assert torch.equal(value, everyone["0 " + key.split(" ")[1]]), key
    if world.writes:
        save_state(Path(sys.argv[1]) / name, state)
    world.meet()

with joined(World.of_environment()) as world:
    trained(world, "seen", True)
    del os.environ["LOCAL_WORLD_SIZE"]
    trained(replace(world, _pipes=None), "sent", False)
"""


@pytest.mark.parametrize("size", [2, 3])
def test_weights_that_all_see_are_those_of_gradients_that_are_sent(size, tmp_path):
    run(STEPS, tmp_path, size=size)
    seen, sent = (
        load_state(tmp_path / name / "step-0000003.safetensors", CPU).tensors()
        for name in ("seen", "sent")
    )
    assert seen.keys() == sent.keys()
    start = TrainState.start(load_state(next(tmp_path.glob("seen/*")), CPU).config, CPU).tensors()
    for name, value in seen.items():
        # Moments, steps and all: of two processes the sums are the same, of three their order is
        # another. Adam's steps are of the size of the rate however small the gradient, so the
        # distance is held against the way gone.
        way = (
            float((value - start[name]).abs().sum()) if name in start else float(value.abs().sum())
        )
        assert float((value - sent[name]).abs().sum()) <= 0.02 * way, name


WITHOUT = """
import os, torch
from dissect._utils.distributed import World, joined
from dissect.training.shared_weights import SharedWeights

weight = torch.nn.Parameter(torch.ones(3))
kept = weight.data_ptr()
with joined(World.of_environment()) as world:
    if world.rank == 1:
        del os.memfd_create
    adam = torch.optim.Adam([weight])
    assert SharedWeights.of([adam], world, torch.device("cpu")) is None
assert weight.data_ptr() == kept
"""


def test_where_one_process_has_no_such_memory_none_uses_it():
    run(WITHOUT)


REFUSED = """
import os, torch
from dissect._utils.distributed import World, joined

world = World.of_environment()
if world.rank == 1:
    def refuse(*_):
        raise PermissionError
    os.open = refuse
with joined(world) as world:
    assert world._pipes is None
    assert world.exchanged(torch.ones(2) * world.rank).tolist() == [[0, 0], [1, 1]]
"""


def test_where_one_process_may_open_no_pipe_none_uses_them():
    run(REFUSED)


@pytest.mark.parametrize(
    ("world", "local"), [(World(), "1"), (World(0, 2), "1"), (World(0, 2), "")]
)
def test_one_process_and_several_machines_share_no_memory(world, local, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    state = TrainState.start(TINY, CPU)
    assert SharedWeights.of([state.generator_optimizer], world, CPU) is None


LOSING = """
import os, signal, time
from datetime import timedelta
from dissect._utils.errors import DissectError
from dissect._utils.distributed import World, joined

try:
    with joined(World.of_environment(), patience=timedelta(seconds=5)) as world:
        for turn in range(10):
            if world.rank == 1 and turn == 5:
                {end}
            world.meet()
except DissectError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "the connection to process 1 was closed"),
        ("time.sleep(60)", "the connection to process 1 timed out"),
    ],
)
def test_who_ends_or_is_silent_is_missed(end, told):
    pair = Pair(LOSING.format(end=end), LOCAL_WORLD_SIZE="2")
    out, err = pair.processes[0].communicate(timeout=60)
    pair.processes[1].kill()
    killed = pair.processes[1].wait(60)
    assert killed == -signal.SIGKILL
    assert out == f"another process was lost: {told}\n", err
    for stream in (pair.processes[1].stdout, pair.processes[1].stderr):
        stream.close()


TRAINING = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
from helpers.training import TINY, Stripes
from dissect._utils.errors import DissectError
from dissect._utils.distributed import World, joined
from dissect.training import TrainState, train

class Losing(Stripes):
    calls = 0
    def images(self, indices):
        self.calls += 1
        if os.environ["RANK"] == "1" and self.calls == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().images(indices)

try:
    with joined(World.of_environment()) as world:
        state = TrainState.start(replace(TINY, steps=20), torch.device("cpu"))
        train(state, Losing(), Path(sys.argv[1]), save_every=2, world=world)
except DissectError as error:
    print(error)
"""


@pytest.mark.parametrize("more", [{}, {"LOCAL_WORLD_SIZE": "2"}], ids=["sent", "seen"])
def test_a_training_that_loses_a_process_keeps_its_last_checkpoint(more, tmp_path):
    tests = str(Path(__file__).parents[1])
    pair = Pair(f"import sys; sys.path.insert(0, {tests!r})\n{TRAINING}", tmp_path, **more)
    (status, out, err), (killed, *_) = pair.end()
    assert (status, killed) == (0, -signal.SIGKILL), err
    last = checkpoints(tmp_path)[0]
    assert f"the last good checkpoint is {last}: go on from it with --resume" in out
    assert load_state(last, CPU).step in (4, 6, 8)


def test_one_process_exchanges_with_itself():
    assert World().exchanged(torch.ones(2)).tolist() == [[1, 1]]
