"""One process with two threads beside two processes with one: `python benchmarks/processes.py`.

Training of the paper's networks and of small ones, `dissect units` and `dissect effect`, each in
one process with one thread, in one process with two threads, and in two processes with one thread
each that share the work. They take turns, so that other load on the machine meets them all alike;
medians. In the rows "a batch each" two processes make steps of twice as many images, so that each
has as many of them as one process alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from dissect._utils.distributed import ProcessGroup
from dissect.dissection import network_dissection
from dissect.effect.study import study_effect
from dissect.models import latents_for, load
from dissect.segmentation import load_segmenter
from dissect.surgery.intervention import Intervention
from dissect.training.config import TrainConfig
from dissect.training.state import TrainState
from dissect.training.step import TrainingModules, train_step
from dissect.units import Units

ROOT = Path(__file__).resolve().parents[1]
LAYER = "layer8x8"
BATCH = 128
# Processes and threads of each, by what the column is called.
WAYS = {"1 x 1 thread": (1, 1), "1 x 2 threads": (1, 2), "2 x 1 thread": (2, 1)}


def training(
    group: ProcessGroup, steps: int, config: TrainConfig, *, batch_each: bool = False
) -> Callable[[], None]:
    """So many steps of the paper's 128 images, or of 128 images a process."""
    state = TrainState.start(config, torch.device("cpu"))
    rows = BATCH if batch_each else BATCH // group.size
    real = (torch.rand(rows, 3, 64, 64) * 2 - 1).contiguous(memory_format=torch.channels_last)
    z = torch.rand(rows, 100) * 2 - 1
    modules = TrainingModules.create(state, group)

    def work(steps: int = steps) -> None:
        for _ in range(steps):
            train_step(state, real, z, modules)

    work(1)
    return work


def units(group: ProcessGroup, n: int) -> Callable[[], None]:
    """A dissection of the default layer on so many samples, and its units removed on 8."""
    model, segmenter = load("bedrooms64"), load_segmenter(None)

    def work() -> None:
        network_dissection(model, [LAYER], segmenter, n=n, effect_n=8, group=group)

    return work


def effect(group: ProcessGroup, n: int) -> Callable[[], None]:
    """An edit of 24 units on so many latents, with 8 controls on all of them."""
    model, segmenter = load("bedrooms64"), load_segmenter(None)
    edit = Intervention(Units(LAYER, tuple(range(24)), 256))
    z = latents_for(model, n, 2)

    def work() -> None:
        edits = {"everywhere": edit}
        study_effect(
            model, edits, z, segmenter, "window", controls=8, n_control_samples=n, group=group
        )

    return work


EACH = "a batch each"
PAPER = TrainConfig(batch_size=BATCH)
SMALL = TrainConfig(generator_width=64, discriminator_width=32, kernel=4, batch_size=BATCH)
WORK: dict[str, Callable[[ProcessGroup, int], Callable[[], None]]] = {
    "paper": partial(training, config=PAPER),
    f"paper, {EACH}": partial(training, config=PAPER, batch_each=True),
    "small": partial(training, config=SMALL),
    f"small, {EACH}": partial(training, config=SMALL, batch_each=True),
    "units": units,
    "effect": effect,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Two threads beside two processes.")
    parser.add_argument("--rows", nargs="+", choices=WORK, default=list(WORK), metavar="ROW")
    parser.add_argument("--steps", type=int, default=20, help="of training small networks")
    parser.add_argument("--paper-steps", type=int, default=3, help="of training the paper's")
    parser.add_argument("--n", type=int, default=1_000, help="samples of units and effect")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(options.worker[0], int(options.worker[1]))
        return
    sizes = dict.fromkeys(options.rows, options.n)
    for name in sizes:
        if name.startswith(("paper", "small")):
            sizes[name] = options.paper_steps if name.startswith("paper") else options.steps
    seconds: dict[str, dict[str, list[float]]] = {name: {way: [] for way in WAYS} for name in sizes}
    for _ in range(options.repeats):
        for name, size in sizes.items():
            for way, runs in seconds[name].items():
                runs.append(measured(name, size, *WAYS[way]))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{cores} cores, load {load_average:.1f}; {options.repeats} runs of each")
    print(f"{'':<22}" + "".join(f"{way:>24}" for way in WAYS))
    for name, found in seconds.items():
        trains = name.startswith(("paper", "small"))
        images = sizes[name] * (BATCH if trains else 1)
        first = images / statistics.median(found["1 x 1 thread"])
        cells = []
        for way, runs in found.items():
            more = WAYS[way][0] if name.endswith(EACH) else 1
            rate = more * images / statistics.median(runs)
            cells.append(f"{rate:.1f}/s ({rate / first:.2f})")
        print(f"{name:<22}" + "".join(f"{cell:>24}" for cell in cells))


def measured(name: str, size: int, processes: int, threads: int) -> float:
    """The seconds of one run in so many processes of their own."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone"]
        start += ["--nproc-per-node", str(processes), "--"]
    path = os.pathsep.join([str(ROOT), *sys.path])
    ended = subprocess.run(
        [*start, __file__, "--worker", name, str(size)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
    )
    if ended.returncode:
        raise SystemExit(f"{name} in {processes} processes failed:\n{ended.stderr}")
    return float(json.loads(ended.stdout))


def _work(name: str, size: int) -> None:
    group = ProcessGroup.from_environment()
    with group.connect():
        work = WORK[name](group, size)
        group.barrier()  # they begin together
        began = time.perf_counter()
        work()
        group.barrier()
        seconds = time.perf_counter() - began
        del work  # its DistributedDataParallel is not to outlive what it talks over
    if group.is_main_process:
        print(json.dumps(seconds))


if __name__ == "__main__":
    main()
