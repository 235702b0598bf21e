"""Two processes on the CPU make the steps of one."""

import copy
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.training import CPU, TINY, Stripes
from PIL import Image
from torch import nn

from dissect._utils.distributed import World
from dissect._utils.errors import DissectError
from dissect.cli import main
from dissect.models.dcgan import Discriminator
from dissect.training import TrainState, load_state, train
from dissect.training.distributed import shared_forward, synchronized
from dissect.training.state import checkpoints

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (
    "--image-size 16 --batch-size 8 --width 4 --discriminator-width 4 --latent-size 5 --kernel 4 "
    "--steps 4 --save-every 2 --threads 1 --device cpu --augment colour,translation,cutout"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for place, image in enumerate(Stripes().images(range(16))):
        Image.fromarray(image).save(folder / f"{place:02d}.png")
    return folder


def run(images, out, *words, processes=1):
    start = ["-m"]
    if processes > 1:
        start += f"torch.distributed.run --standalone --nproc-per-node {processes} -m".split()
    return subprocess.run(
        [sys.executable, *start, "dissect", "train", f"folder:{images}", "--out", str(out)]
        + SHAPE.split()
        + list(words),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def tensors(folder):
    state = load_state(checkpoints(folder)[0], CPU)
    assert state.step == 4
    return state.tensors()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
@pytest.mark.parametrize("tasks", [[], ["--rotations", "1", "--contrast", "1"]])
def test_two_processes_are_one_process_within_rounding(tasks, images, tmp_path):
    alone = run(images, tmp_path / "one", "--json", *tasks)
    assert alone.returncode == 0, alone.stderr
    together = run(images, tmp_path / "two", "--json", *tasks, processes=2)
    assert together.returncode == 0, together.stderr
    # One of them speaks.
    assert json.loads(together.stdout)["steps"] == json.loads(alone.stdout)["steps"] == 4
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert one.keys() == two.keys()
    # Where the device computes in bfloat16, that is what is rounded; and Adam's first steps are of
    # the size of the rate however small the gradient. So the distance is held against the way gone.
    assert astray(one, two) < 0.08
    # Statistics over each process's half of the batch are another training.
    apart = run(images, tmp_path / "apart", "--no-sync-batch-norm", *tasks, processes=2)
    assert apart.returncode == 0, apart.stderr
    assert astray(one, tensors(tmp_path / "apart")) > 0.24


def astray(one, other):
    """How far apart two runs have come, as a share of the way that the first has gone."""
    start = TrainState.start(TINY, CPU).tensors()
    names = [name for name in start if name.endswith(("conv.weight", "norm.weight"))]
    apart = sum(float((one[name] - other[name]).abs().sum()) for name in names)
    return apart / sum(float((one[name] - start[name]).abs().sum()) for name in names)


@pytest.fixture
def world_of_one(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_the_synchronized_norm_is_the_batch_norm_in_a_world_of_one(world_of_one):
    norm, x = nn.BatchNorm2d(3), (torch.randn(8, 3, 4, 4) * 3 + 100)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1, 2]))
        norm.bias.copy_(torch.tensor([0.0, 1, -1]))
    plain = copy.deepcopy(norm)
    network = nn.Sequential(norm)
    towards = torch.randn(8, 3, 4, 4)
    results = []
    # A world of two in name, so that the norm is replaced; those who answer are one.
    with synchronized(network, world=World(0, 2)):
        assert network[0] is not norm
        for module in (network, plain):
            mine = x.clone().requires_grad_()
            y = module(mine)
            (y * towards).sum().backward()
            results.append((y, mine.grad))
        assert "0.running_mean" in network.state_dict()
    assert network[0] is norm
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    for (name, mine), (_, theirs) in zip(
        norm.state_dict().items(), plain.state_dict().items(), strict=True
    ):
        torch.testing.assert_close(mine, theirs, msg=name)
    for mine, theirs in zip(norm.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_halves_of_a_batch_are_normalised_as_one(monkeypatch, dtype):
    # Two threads stand for two processes; the halves differ in mean and deviation.
    torch.manual_seed(0)
    x = torch.cat([torch.randn(4, 3, 4, 4), torch.randn(4, 3, 4, 4) * 3 + 2]).to(dtype)
    towards = torch.randn(8, 3, 4, 4).to(dtype)
    whole = nn.BatchNorm2d(3)
    nn.init.normal_(whole.weight)
    barrier, sent, half = threading.Barrier(2), [None, None], threading.local()

    def exchanged(_, own):
        sent[half.rank] = own
        barrier.wait(30)
        together = torch.stack(sent)
        barrier.wait(30)
        return together

    monkeypatch.setattr(World, "exchanged", exchanged)

    def passes(norm, rank, rows):
        half.rank = rank
        mine = x[rows].clone().requires_grad_()
        y = norm(mine)
        (y * towards[rows]).sum().backward()
        return y.detach(), mine.grad, norm.weight.grad, norm.bias.grad, norm.running_var

    wanted = passes(copy.deepcopy(whole), 0, slice(8))
    holders = [nn.Sequential(copy.deepcopy(whole)) for _ in range(2)]
    rows = [slice(4), slice(4, 8)]
    with synchronized(*holders, world=World(0, 2)), ThreadPoolExecutor(2) as pool:
        found = list(pool.map(passes, [holder[0] for holder in holders], range(2), rows))
    y, dx, *_ = (torch.cat(both) for both in zip(*found, strict=True))
    near = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(y, wanted[0], **near)
    torch.testing.assert_close(dx, wanted[1], **near)
    for place in (2, 3):
        torch.testing.assert_close(found[0][place] + found[1][place], wanted[place], **near)
    torch.testing.assert_close(found[0][4], wanted[4], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1][4], found[0][4])


def test_matrix_products_learn_under_distributed_data_parallel_as_without_it(world_of_one):
    network, x = Discriminator(64, 16, kernel=4), torch.randn(8, 3, 16, 16)
    twin = copy.deepcopy(network)
    with torch.autocast("cpu", torch.bfloat16):
        shared_forward(network, World(0, 2))(x).sum().backward()
        shared_forward(twin, World())(x).sum().backward()
    for (name, mine), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad), name


@pytest.mark.parametrize("rank", [0, 1])
def test_a_world_that_does_not_divide_the_batch_is_one_line(
    rank, images, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", str(rank))
    with pytest.raises(SystemExit) as end:
        main(["train", f"folder:{images}", "--out", str(tmp_path / "run"), *SHAPE.split()])
    assert end.value.code == 2
    said = capfd.readouterr().err
    line = "dissect: a batch of 8 cannot be shared evenly by 3 processes; give a --batch-size that"
    assert said.startswith(line) if rank == 0 else not said


def test_shares_of_a_batch_cover_it_in_order():
    shares = [World(rank, 4).share_of(12) for rank in range(4)]
    assert [list(range(12))[share] for share in shares] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9, 10, 11],
    ]
    with pytest.raises(DissectError, match="multiple of 5"):
        World(0, 5).share_of(12)


def test_batch_norm_of_one_image_a_process_is_refused(tmp_path):
    config = replace(TINY, sync_batch_norm=False)
    with pytest.raises(DissectError, match="two images a process"):
        train(TrainState.start(config, CPU), Stripes(), tmp_path, world=World(0, 8))
