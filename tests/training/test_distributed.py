"""Two processes on the CPU make the steps of one, batch norm apart."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.processes import Pair
from helpers.training import CPU, TINY, Stripes
from PIL import Image
from torch import nn

from dissect._utils.distributed import ProcessGroup
from dissect._utils.errors import DissectError
from dissect.cli import main
from dissect.data import source
from dissect.training import TrainConfig, TrainState, load_state, train
from dissect.training.state import checkpoints

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (
    "--image-size 16 --batch-size 8 --set generator_width=4 --set discriminator_width=4 "
    "--set latent_size=5 --set kernel=4 --set augment=colour,translation,cutout "
    "--steps 4 --save-every 2 --threads 1 --device cpu"
)

needs_distributed = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch without distributed"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for place, image in enumerate(Stripes().images(range(16))):
        Image.fromarray(image).save(folder / f"{place:02d}.png")
    return folder


def run_two(images, out):
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["-m", "dissect", "train", f"folder:{images}", "--out", str(out), *SHAPE.split()]
    return subprocess.run(
        [sys.executable, *start, *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def by_halves(network: nn.Module) -> None:
    """Let a network take each half of a batch by itself, as two processes do."""
    whole = network.forward
    network.forward = lambda x: torch.cat([whole(half) for half in x.chunk(2)])


@needs_distributed
def test_two_processes_train_as_one_that_normalises_each_half_of_a_batch(images, tmp_path):
    together = run_two(images, tmp_path / "two")
    assert together.returncode == 0, together.stderr
    # The main process alone prints.
    assert json.loads(together.stdout)["steps"] == 4
    two = load_state(checkpoints(tmp_path / "two")[0], CPU)
    assert two.step == 4

    def trained(name, change):
        state = TrainState.start(two.config, CPU)
        change(state.generator)
        change(state.discriminator)
        opened = source(two.config.source, size=16)
        return train(state, opened, tmp_path / name).tensors()

    # Adam's first steps are of the size of the rate however small the gradient, so that the
    # distance is held against the way gone; in bfloat16 that is what is rounded.
    assert distance(trained("halves", by_halves), two.tensors(), two.config) < 0.08
    # Statistics of the whole batch are another training.
    assert distance(trained("whole", lambda _: None), two.tensors(), two.config) > 0.24


def distance(one, other, config: TrainConfig) -> float:
    """How far apart two runs have come, as a fraction of the way that the first has gone."""
    start = TrainState.start(config, CPU).tensors()
    names = [name for name in start if name.endswith(("conv.weight", "norm.weight"))]
    apart = sum(float((one[name] - other[name]).abs().sum()) for name in names)
    return apart / sum(float((one[name] - start[name]).abs().sum()) for name in names)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_group_that_does_not_divide_the_batch_is_one_line(
    rank, images, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", str(rank))
    with pytest.raises(SystemExit) as end:
        main(["train", f"folder:{images}", "--out", str(tmp_path / "run"), *SHAPE.split()])
    assert end.value.code == 2
    errors = capfd.readouterr().err
    line = "dissect: a batch of 8 cannot be split evenly over 3 processes; give a --batch-size that"
    # Without torchrun nobody knows who else prints: an error is never silent.
    assert line in errors


def test_the_rows_of_all_processes_cover_a_batch_in_order():
    shares = [ProcessGroup(rank, 4).batch_rows(12) for rank in range(4)]
    assert [list(range(12))[share] for share in shares] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9, 10, 11],
    ]
    with pytest.raises(DissectError, match="multiple of 5"):
        ProcessGroup(0, 5).batch_rows(12)


def test_batch_norm_of_one_image_a_process_is_refused(tmp_path):
    with pytest.raises(DissectError, match="two images a process"):
        train(TrainState.start(TINY, CPU), Stripes(), tmp_path, group=ProcessGroup(0, 8))


LOSING = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
from helpers.training import TINY, Stripes
from dissect._utils.errors import DissectError
from dissect._utils.distributed import ProcessGroup
from dissect.training import TrainState, train

class Losing(Stripes):
    calls = 0
    def images(self, indices):
        self.calls += 1
        if os.environ["RANK"] == "1" and self.calls == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().images(indices)

try:
    group = ProcessGroup.from_environment()
    with group.connect():
        state = TrainState.start(replace(TINY, steps=20), torch.device("cpu"))
        train(state, Losing(), Path(sys.argv[1]), save_every=2, group=group)
except DissectError as error:
    print(error)
"""


@needs_distributed
def test_a_training_that_loses_a_process_keeps_its_last_checkpoint(tmp_path):
    tests = str(ROOT / "tests")
    pair = Pair(f"import sys; sys.path.insert(0, {tests!r})\n{LOSING}", tmp_path)
    (status, out, err), (killed, *_) = pair.end()
    assert (status, killed) == (0, -signal.SIGKILL), err
    last = checkpoints(tmp_path)[0]
    assert f"the last good checkpoint is {last}: go on from it with --resume" in out
    assert load_state(last, CPU).step in (4, 6, 8)
