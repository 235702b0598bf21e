"""Does a training survive SIGKILL at any moment? `python benchmarks/kills.py --kills 50`.

Runs of `dissect train` are killed again and again, each time after a moment drawn by chance, and
resumed until they end. Every tensor of the last checkpoint (weights, moving average, Adam's
moments), the losses and the pictures are compared with those of a run that nobody killed. The
exit status is 1 if a single bit differs.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

# One process imports torch, and every training is a fork of it: a start takes no seconds.
_NURSERY = """
import os, sys
from pathlib import Path
import dissect.training, dissect.data, dissect.models
from dissect.cli import main
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        main(line.split())
    print(child, flush=True)
    # Until then an ended child keeps its number, and no other process can be killed for it.
    sys.stdin.readline()
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
_SHAPE = (
    "--image-size 32 --batch-size 8 --set generator_width=16 --set discriminator_width=16 "
    "--set kernel=4 "
    "--save-every 7 --sample-every 50 --threads 1 --device cpu"
)


class Nursery:
    """A process whose children are trainings."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DISSECT_CACHE": str(folder / "cache")}
        root = str(Path(__file__).resolve().parents[1])
        environment["PYTHONPATH"] = os.pathsep.join([root, *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def run(self, words: str, *, moment: Callable[[], None] | None = None) -> int:
        """The exit status of `dissect words`; -9 where it was killed when `moment` returned."""
        commands, replies = self._process.stdin, self._process.stdout
        assert commands is not None
        assert replies is not None
        commands.write(words + "\n")
        commands.flush()
        child = int(replies.readline())
        if moment is not None:
            moment()
            os.kill(child, signal.SIGKILL)
        commands.write("wait\n")
        commands.flush()
        while not (answer := replies.readline().strip()).lstrip("-").isdigit():
            if not answer:
                raise SystemExit("the process that starts the trainings has ended")
        return int(answer)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Kill, compare, print what was found."""
    parser = argparse.ArgumentParser(
        description="Trainings killed again and again, against one that is not."
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=200, help="of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    found = {"kills": 0, "runs": 0, "differences": 0, "while_writing": 0, "resumed_from": 0}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        nursery = Nursery(Path(name))
        try:
            while found["kills"] < options.kills:
                _one_run(nursery, Path(name), options, chance, found)
        finally:
            nursery.close()
    print(json.dumps({**found, "seconds": round(time.perf_counter() - began)}))
    sys.exit(1 if found["differences"] else 0)


def _one_run(
    nursery: Nursery,
    folder: Path,
    options: argparse.Namespace,
    chance: random.Random,
    found: dict[str, int],
) -> None:
    """One unbroken run, and the same run killed until it ends or enough were killed."""
    whole, broken = folder / f"whole-{found['runs']}", folder / f"broken-{found['runs']}"
    words = f"train bedrooms --images 64 {_SHAPE} --steps {options.steps} --seed {found['runs']}"
    began = time.perf_counter()
    if status := nursery.run(f"{words} --out {whole}"):
        raise SystemExit(f"an unbroken run ended with status {status}")
    took = time.perf_counter() - began
    steps: set[str] = set()
    resumed, status = "", -int(signal.SIGKILL)
    while status:
        # A run that has made its last step is let go.
        last = broken / f"step-{options.steps:07d}.safetensors"
        enough = found["kills"] >= options.kills or last.exists()
        moment = None if enough else _moment(broken, chance, took)
        status = nursery.run(f"{words} --out {broken}{resumed}", moment=moment)
        if status not in (0, -signal.SIGKILL):
            raise SystemExit(f"a resumed run ended with status {status}")
        found["kills"] += status != 0
        found["while_writing"] += status != 0 and any(broken.glob(".*.*.*"))
        checkpoints = sorted(path.name for path in broken.glob("step-*"))
        steps.update(checkpoints[-1:])
        resumed = " --resume" if checkpoints else ""
    found["runs"] += 1
    found["resumed_from"] += len(steps)
    found["differences"] += _differences(whole, broken)


def _moment(folder: Path, chance: random.Random, took: float) -> Callable[[], None]:
    """What returns at a moment drawn by chance: in the start, or among a run's steps.

    Three times of four it waits for one or two new checkpoints, whatever they take, and then for
    up to as long as the last one took.
    """
    if chance.random() < 0.25:
        seconds = chance.uniform(0, took / 10)
        return lambda: time.sleep(seconds)
    wanted, share = chance.randint(1, 2), chance.random()

    def newest() -> str:
        return max((path.name for path in folder.glob("step-*")), default="")

    def wait() -> None:
        began, known, interval = time.perf_counter(), newest(), 0.0
        for _ in range(wanted):
            while newest() == known:
                time.sleep(0.001)
                # At the end of the run no new one comes.
                if (folder / "generator.safetensors").exists():
                    return
            known, interval = newest(), time.perf_counter() - began
            began = time.perf_counter()
        time.sleep(share * min(interval, took / 10))

    return wait


def _differences(whole: Path, broken: Path) -> int:
    """How many tensors, rows of losses and pictures of two finished runs are not the same."""
    pattern = re.compile(r"(step|samples)-\d+\.\w+|(generator|discriminator)\.safetensors")
    names = [
        {path.name for path in run.iterdir() if pattern.fullmatch(path.name)}
        for run in (whole, broken)
    ]
    different = len(names[0] ^ names[1])
    for name in sorted(names[0] & names[1]):
        one, other = whole / name, broken / name
        if name.endswith(".png"):
            different += one.read_bytes() != other.read_bytes()
            continue
        tensors, others = load_file(one), load_file(other)
        different += len(tensors.keys() ^ others.keys())
        different += sum(
            not torch.equal(tensors[key], others[key]) for key in tensors.keys() & others.keys()
        )
    rows = [_losses(run / "losses.jsonl") for run in (whole, broken)]
    return different + (rows[0] != rows[1])


def _losses(path: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = [json.loads(line) for line in path.read_text().splitlines()]
    # How fast it was is no part of what was computed.
    return [{key: value for key, value in row.items() if "per_s" not in key} for row in rows]


if __name__ == "__main__":
    main()
