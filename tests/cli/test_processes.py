"""Two processes on the CPU measure what one does, to the byte."""

import json
import signal
import subprocess
import sys

import pytest
import torch
from helpers.command_line import common, run
from helpers.processes import Pair, environment

from dissect._utils.distributed import ProcessGroup, is_peer_failure

# The two strokes keep torchrun from taking --n for one of its own options.
TORCHRUN = [
    *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    *("-m", "--", "dissect"),
]

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch without distributed"
)


def together(*words, **more):
    """One command in two processes."""
    return subprocess.run(
        [sys.executable, *TORCHRUN, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=environment(**more),
    )


def same_from_one_and_two(capsys, out, words, **more):
    """The result of one process, which two have given, too, with the same files.

    The one has three threads and the two one each: that changes nothing, either.
    """
    torch.set_num_threads(3)
    status, said, err = run(capsys, *words, "--out", out)
    assert status == 0, err
    files = {path: path.read_bytes() for path in out.iterdir()}
    for path in files:
        path.unlink()
    two = together(*words, "--out", out, **more)
    assert two.returncode == 0, two.stderr
    # One of them speaks, and says the same.
    assert two.stdout == said
    assert {path: path.read_bytes() for path in out.iterdir()} == files
    return json.loads(said)


# Three batches, the last of them not full; and one, so that a process has nothing to do.
@pytest.mark.parametrize(("n", "layer"), [(111, "all"), (7, "layer8x8")])
def test_units_of_two_processes_are_those_of_one(capsys, tiny, tmp_path, n, layer):
    words = [
        *("units", "--model", tiny / "g.safetensors", "--segmenter", tiny / "s.safetensors"),
        *("--n", n, "--layer", layer, "--effect-n", 3, "--top", 3, "--json"),
    ]
    found = same_from_one_and_two(capsys, tmp_path, words)
    assert found["n"] == n
    assert len(found["files"]) == 2


def test_an_effect_of_two_processes_is_that_of_one(
    capsys,
    study,
    eyes,
    tmp_path,
    tmp_path_factory,
    monkeypatch,
):
    cache = str(tmp_path_factory.getbasetemp() / "sharded")
    monkeypatch.setenv("DISSECT_CACHE", cache)
    words = ["effect", *common(study, tmp_path), "--segmenter", eyes, "--rule", "top:3"]
    words += ["--n", 111, "--control-n", 60, "--random-sets", 3]
    found = same_from_one_and_two(capsys, tmp_path, words, DISSECT_CACHE=cache)
    assert found["n_samples"] == 111
    assert found["random"]["probe"]["frechet"] is not None


def test_a_mistake_is_told_once_and_ends_both(tiny, tmp_path):
    words = ["units", "--model", tiny / "g.safetensors", "--out", tmp_path]
    ended = together(*words, "--layer", "layer9x9")
    assert ended.stdout == ""
    told = [line for line in ended.stderr.splitlines() if line.startswith("dissect: ")]
    assert len(told) == 1, ended.stderr
    assert "did you mean 'layer8x8'" in told[0]
    # The rest is the report of torchrun, which leaves with a status of its own.
    assert "exitcode  : 2" in ended.stderr
    assert ended.returncode == 1
    assert not list(tmp_path.iterdir())


MERGING = """
import torch
from dissect._utils.running_stats import RunningMoments, RunningQuantile, RunningTopK
from dissect._utils.distributed import ProcessGroup

values = torch.randn(3, 41, generator=torch.Generator().manual_seed(1)) * 50

def statistics(places):
    running = RunningQuantile(3), RunningTopK(3, 4), RunningMoments(3)
    for place in places:
        running[0].update(values[:, place, None])
        running[1].update(values[:, place, None], torch.tensor([place]))
        running[2].update(values[:, place, None])
    return running

group, of_others = ProcessGroup.from_environment(), []
with group.connect():
    own = list(group.split(range(41), on_others=of_others.extend))
    assert sorted(own + of_others) == list(range(41)), (own, of_others)
    everyone = group.all_gather_object({"rank": group.rank, "own": own})
    assert [found["rank"] for found in everyone] == [0, 1]
    assert sorted(everyone[0]["own"] + everyone[1]["own"]) == list(range(41))
    assert int(group.sum(torch.tensor(len(own)))) == 41
    assert group.any(group.rank == 1, torch.device("cpu"))
    assert not group.any(False, torch.device("cpu"))
    group.barrier()
    reduced = [group.reduce(statistic) for statistic in statistics(own)]
for found, alone in zip(reduced, statistics(range(41))):
    for name, value in alone.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
"""


def test_what_is_shared_is_done_once_and_merged_exactly_in_both():
    for status, _, err in Pair(MERGING).end():
        assert status == 0, err


FACTORY = """
import os, signal
from dissect.models import load

def lost():
    model, calls = load({model!r}), 0
    def count(module, inputs):
        nonlocal calls
        calls += 1
        if os.environ["RANK"] == "1" and calls == 9:
            os.kill(os.getpid(), signal.SIGKILL)
    model.register_forward_pre_hook(count)
    return model
"""


def test_a_process_that_is_killed_ends_the_other_with_one_line(tiny, tmp_path):
    factory = tmp_path / "factory.py"
    factory.write_text(FACTORY.format(model=str(tiny / "g.safetensors")))
    pair = Pair(
        "from dissect.cli import main; main()",
        *("units", "--model", f"{factory}:lost", "--segmenter", tiny / "s.safetensors"),
        *("--n", 4000, "--out", tmp_path / "out"),
    )
    (status, out, err), (killed, *_) = pair.end()
    assert killed == -signal.SIGKILL
    assert status == 2, err
    assert out == ""
    assert err.startswith("dissect: another process was lost: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


SILENT = """
import time
from datetime import timedelta
import torch
from dissect._utils.errors import DissectError
from dissect._utils.distributed import ProcessGroup

group = ProcessGroup.from_environment()
try:
    with group.connect(timeout=timedelta(seconds=3)):
        if group.rank:
            time.sleep(60)
        group.sum(torch.tensor(1))
except DissectError as error:
    print(error)
"""


def test_a_process_that_hangs_is_given_up():
    pair = Pair(SILENT)
    out, err = pair.processes[0].communicate(timeout=600)
    pair.processes[1].kill()
    pair.end()
    assert out.startswith("another process was lost: "), err


OWN_ERROR = """
from dissect._utils.distributed import ProcessGroup

with ProcessGroup.from_environment().connect():
    raise RuntimeError("no connection to the camera: gloo, nccl")
"""


def test_an_error_of_the_users_own_is_not_taken_for_a_lost_process_by_its_words():
    for status, _, err in Pair(OWN_ERROR).end():
        assert status == 1
        assert err.strip().endswith("RuntimeError: no connection to the camera: gloo, nccl")
        assert "another process was lost" not in err


def test_a_lost_process_is_known_by_the_type_of_the_error():
    assert is_peer_failure(torch.distributed.DistBackendError("of NCCL"))
    assert is_peer_failure(torch.distributed.DistNetworkError("of the store"))
    assert is_peer_failure(RuntimeError("gloo has no type of its own"))
    assert not is_peer_failure(torch.OutOfMemoryError("the connection of 2 GiB of gloo"))
    assert not is_peer_failure(ValueError("connection"))
    alone = ProcessGroup()
    with pytest.raises(RuntimeError, match="^plain$"), alone.communicating():
        raise RuntimeError("plain")


def test_one_process_does_everything():
    group = ProcessGroup()
    with group.connect():
        assert list(group.split(range(5))) == [0, 1, 2, 3, 4]
        value = {"a": torch.ones(2)}
        assert group.all_gather_object(value) == [value]
        assert int(group.sum(torch.tensor(3))) == 3


def test_processes_that_cannot_meet_are_told_so(capsys, monkeypatch, tiny, tmp_path):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "")):
        monkeypatch.setenv(name, value)
    words = ["units", "--model", tiny / "g.safetensors", "--n", 9, "--out", tmp_path]
    status, _, err = run(capsys, *words)
    assert status == 2
    assert "the 2 processes that RANK and WORLD_SIZE name cannot join" in err
    assert err.count("\n") == 1
