"""What a second process is worth: `python benchmarks/processes.py`.

Training (of the paper's networks and of small ones, also with batch norms that each
keep to their process's share), `dissect units` and `dissect effect`, each in one process and in two
that share the work, one thread a process. They take turns, so that what else the machine does
meets them all alike; medians. In the rows "a batch each" two processes make steps of twice as many
images, so that each has as many of them as one process alone. In the rows "sent" gradients are
averaged by DistributedDataParallel, as between machines, and not through shared memory; in the row
"tasks" the discriminator learns both auxiliary tasks besides.

Beside the time that passed stands the processor's: what would be gained where both processes have a
core of their own. Communication is the share of the time that a process spends sending, receiving
and waiting for the other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

import dissect.training.distributed
from dissect._utils.distributed import World, joined
from dissect._utils.pipes import Pipes
from dissect.dissection import dissect_units
from dissect.effect.study import study_effect
from dissect.models import latents_for, load
from dissect.segmentation import open_segmenter
from dissect.surgery.intervention import Intervention
from dissect.training import shared_weights
from dissect.training.config import TrainConfig
from dissect.training.device import keep_freed_memory
from dissect.training.distributed import synchronized
from dissect.training.state import TrainState
from dissect.training.step import Players, train_step
from dissect.units import Units

ROOT = Path(__file__).resolve().parents[1]
LAYER = "layer8x8"
BATCH = 128


class Run(NamedTuple):
    """One measurement; of two processes the longer time, and the mean of the shares."""

    seconds: float
    processor: float
    communication: float


class Exchange:
    """The seconds spent in functions of `torch.distributed`, which it takes the place of."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for name in ("all_reduce", "broadcast", "send", "recv"):
            setattr(dist, name, self._timed(getattr(dist, name)))
        vars(dissect.training.distributed)["DistributedDataParallel"] = _OneByOne
        for owner, names in (
            (shared_weights._Part, ("_hand_over", "_mean")),
            (Pipes, ("exchange",)),
        ):
            for name in names:
                setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = function(*args, **kwargs)
            self.seconds += time.perf_counter() - began
            return result

        return call


class _OneByOne(DistributedDataParallel):
    """Averages gradients where their time can be taken: as they come, waiting for each."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__(network)
        self.register_comm_hook(None, _average)


def _average(_: None, bucket: dist.GradBucket) -> Future[Tensor]:  # type: ignore[name-defined]
    gradients = bucket.buffer().div_(dist.get_world_size())
    dist.all_reduce(gradients)
    done: Future[Tensor] = Future()
    done.set_result(gradients)
    return done


def training(
    world: World,
    steps: int,
    config: TrainConfig,
    *,
    synchronous: bool = True,
    batch_each: bool = False,
    sent: bool = False,
) -> Callable[[], None]:
    """So many steps of the paper's 128 images, or of 128 images a process.

    Not synchronous, each process's batch norms take the statistics of its own share; sent, the
    processes share no memory.
    """
    keep_freed_memory()
    if sent:
        os.environ.pop("LOCAL_WORLD_SIZE", None)  # as if there were several machines
    state = TrainState.start(config, torch.device("cpu"))
    rows = BATCH if batch_each else BATCH // world.size
    real = (torch.rand(rows, 3, 64, 64) * 2 - 1).contiguous(memory_format=torch.channels_last)
    z = torch.rand(rows, 100) * 2 - 1

    networks = (state.generator, state.discriminator) if synchronous else ()
    # As in a run, they are set up once. The block stays open until the process ends: `work` holds
    # on to it, for a context manager that is let go closes itself.
    block = synchronized(*networks, world=world)
    block.__enter__()
    players = Players.of(state, world)

    def work(steps: int = steps, _block: object = block) -> None:
        for _ in range(steps):
            train_step(state, real, z, players)

    work(1)
    return work


def units(world: World, n: int) -> Callable[[], None]:
    """A dissection of the default layer on so many samples, and its units removed on 8."""
    model, eyes = load("bedrooms64"), open_segmenter(None)

    def work() -> None:
        dissect_units(model, [LAYER], eyes, n=n, effect_n=8, world=world)

    return work


def effect(world: World, n: int) -> Callable[[], None]:
    """An edit of 24 units on so many latents, with 8 controls on all of them."""
    model, eyes = load("bedrooms64"), open_segmenter(None)
    edit = Intervention(Units(LAYER, tuple(range(24)), 256))
    z = latents_for(model, n, 2)

    def work() -> None:
        edits = {"everywhere": edit}
        study_effect(model, edits, z, eyes, "window", controls=8, few=n, world=world)

    return work


EACH = "a batch each"
PAPER = TrainConfig(batch_size=BATCH)
SMALL = TrainConfig(generator_width=64, discriminator_width=32, kernel=4, batch_size=BATCH)
WORK: dict[str, Callable[[World, int], Callable[[], None]]] = {
    "paper": partial(training, config=PAPER),
    "paper, apart": partial(training, config=PAPER, synchronous=False),
    "paper, sent": partial(training, config=PAPER, sent=True),
    f"paper, {EACH}": partial(training, config=PAPER, batch_each=True),
    "small": partial(training, config=SMALL),
    "small, apart": partial(training, config=SMALL, synchronous=False),
    "small, sent": partial(training, config=SMALL, sent=True),
    "small, tasks": partial(training, config=replace(SMALL, rotations=1.0, contrast=1.0)),
    f"small, {EACH}": partial(training, config=SMALL, batch_each=True),
    "units": units,
    "effect": effect,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Two processes beside one.")
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
    runs: dict[str, dict[int, list[Run]]] = {name: {1: [], 2: []} for name in sizes}
    for _ in range(options.repeats):
        for name, size in sizes.items():
            for processes, made in runs[name].items():
                made.append(measured(name, size, processes))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{cores} cores, {load_average:.1f} programs wanted one; {options.repeats} runs of each")
    print(
        f"{'':<20}{'one process':>18}{'two':>18}{'ratio':>8}{'in processor time':>20}"
        f"{'communication':>16}"
    )
    for name, found in runs.items():
        one, two = _median(found[1]), _median(found[2])
        trains = name.startswith(("paper", "small"))
        images = sizes[name] * (BATCH if trains else 1)
        more = 2 if name.endswith(EACH) else 1
        unit = "images/s" if trains else "samples/s"
        print(
            f"{name:<20}{f'{images / one.seconds:.1f} {unit}':>18}"
            f"{f'{more * images / two.seconds:.1f} {unit}':>18}"
            f"{more * one.seconds / two.seconds:>8.2f}"
            f"{more * one.processor / two.processor:>20.2f}{two.communication:>16.1%}"
        )


def measured(name: str, size: int, processes: int) -> Run:
    """One run in so many processes of their own."""
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
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    if ended.returncode:
        raise SystemExit(f"{name} in {processes} processes failed:\n{ended.stderr}")
    return Run(*json.loads(ended.stdout))


def _work(name: str, size: int) -> None:
    exchange = Exchange()
    with joined(World.of_environment()) as world:
        work = WORK[name](world, size)
        world.sum(torch.zeros(1))  # they begin together
        exchange.seconds, began, busy = 0.0, time.perf_counter(), time.process_time()
        work()
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        mine = torch.tensor([seconds, busy, exchange.seconds / seconds])
        others = world.gathered({str(world.rank): mine}).values()
        del work  # its DistributedDataParallel is not to outlive what it talks over
    if world.writes:
        seconds, busy = (max(float(one[place]) for one in others) for place in (0, 1))
        share = statistics.mean(float(one[2]) for one in others)
        print(json.dumps(Run(seconds, busy, share)))


def _median(runs: list[Run]) -> Run:
    return Run(*(statistics.median(values) for values in zip(*runs, strict=True)))


if __name__ == "__main__":
    main()
