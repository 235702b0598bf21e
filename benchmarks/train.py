"""How fast DCGAN trains here, beside a plain PyTorch loop: `python benchmarks/train.py`.

Each row adds one switch to the row before it; the last is the whole of
`dissect.training.train_step`, which also keeps the moving average. Each row runs in a process of
its own, and they take turns step by step, so that other load on the machine meets them all alike.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from dissect._utils.device import autocast_dtype
from dissect.models.dcgan import Discriminator, Generator
from dissect.training.config import TrainConfig
from dissect.training.state import TrainState
from dissect.training.step import train_step

SWITCHES = {
    "plain": "plain loop, as in the PyTorch example",
    "layout": "+ channels last, fused Adam",
    "frozen": "+ no gradients of D's weights in G's step",
    "autocast": "+ autocast to bfloat16, where it is native",
    "compile": "+ torch.compile",
    "step": "dissect.training.train_step",
}
# Compiling takes minutes and a C++ compiler on the CPU.
_DEFAULT_ROWS = [row for row in SWITCHES if row != "compile"]


@dataclass(frozen=True)
class Sizes:
    """What every row trains."""

    generator_width: int
    discriminator_width: int
    kernel: int
    batch_size: int
    image_size: int
    threads: int
    device: str
    processor_time: bool


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Training speed beside a plain PyTorch loop.")
    parser.add_argument("--steps", type=int, default=10, help="measured steps of each row")
    parser.add_argument("--width", type=int, default=64, help="the generator's width")
    parser.add_argument("--discriminator-width", type=int, default=32)
    parser.add_argument("--kernel", type=int, choices=(4, 5), default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count the seconds the step computes, not those that pass (for a busy machine)",
    )
    parser.add_argument("--rows", nargs="+", choices=SWITCHES, default=_DEFAULT_ROWS)
    options = parser.parse_args()
    sizes = Sizes(
        options.width,
        options.discriminator_width,
        options.kernel,
        options.batch_size,
        options.image_size,
        options.threads,
        options.device,
        options.processor_time,
    )
    seconds = measure(sizes, options.rows, options.steps)
    base = statistics.median(seconds[options.rows[0]])
    print(f"{'':45}{'images/s':>9}{'ratio':>7}{'fastest step':>14}")
    for row in options.rows:
        median = statistics.median(seconds[row])
        rate, ratio = sizes.batch_size / median, base / median
        print(f"{SWITCHES[row]:45}{rate:9.1f}{ratio:6.2f}x{min(seconds[row]):12.3f} s")


def measure(sizes: Sizes, rows: list[str], steps: int) -> dict[str, list[float]]:
    """The seconds of each step, by row."""
    spawn = multiprocessing.get_context("spawn")
    workers = {}
    for row in rows:
        here, there = spawn.Pipe()
        process = spawn.Process(target=_work, args=(there, sizes, row), daemon=True)
        process.start()
        here.recv()
        workers[row] = here
    seconds: dict[str, list[float]] = {row: [] for row in rows}
    for _ in range(steps):
        for row, worker in workers.items():
            worker.send(True)
            seconds[row].append(worker.recv())
    for worker in workers.values():
        worker.send(False)
    return seconds


def _work(pipe: Connection, sizes: Sizes, row: str) -> None:
    torch.set_num_threads(sizes.threads)
    torch.manual_seed(0)
    step = train_step_loop(sizes) if row == "step" else plain_loop(sizes, row)
    for _ in range(2):
        step()
    pipe.send(None)
    clock = time.process_time if sizes.processor_time else time.perf_counter
    while pipe.recv():
        began = clock()
        step()
        pipe.send(clock() - began)


def _batch(sizes: Sizes) -> tuple[Tensor, Tensor]:
    real = torch.rand(sizes.batch_size, 3, sizes.image_size, sizes.image_size) * 2 - 1
    z = torch.rand(sizes.batch_size, 100) * 2 - 1
    return real.to(sizes.device), z.to(sizes.device)


def train_step_loop(sizes: Sizes) -> Callable[[], None]:
    """One call of `dissect.training.train_step`."""
    config = TrainConfig(
        generator_width=sizes.generator_width,
        discriminator_width=sizes.discriminator_width,
        kernel=sizes.kernel,
        batch_size=sizes.batch_size,
        image_size=sizes.image_size,
    )
    state = TrainState.start(config, torch.device(sizes.device))
    real, z = _batch(sizes)
    real = real.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        train_step(state, real, z).generator.item()

    return step


def plain_loop(sizes: Sizes, row: str) -> Callable[[], None]:
    """One step of the loop of PyTorch's DCGAN example, with the switches up to `row`."""
    on = set(list(SWITCHES)[: list(SWITCHES).index(row) + 1])
    side, kernel = sizes.image_size, sizes.kernel
    networks: list[nn.Module] = [
        Generator(width=sizes.generator_width, image_size=side, kernel=kernel).to(sizes.device),
        Discriminator(width=sizes.discriminator_width, image_size=side, kernel=kernel).to(
            sizes.device
        ),
    ]
    real, z = _batch(sizes)
    if "layout" in on:
        for network in networks:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        real = real.contiguous(memory_format=torch.channels_last)
    g, d = networks
    adam_g, adam_d = (
        torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999), fused="layout" in on or None)
        for network in networks
    )
    one, zero = torch.ones(len(z), device=z.device), torch.zeros(len(z), device=z.device)

    dtype = autocast_dtype(torch.device(sizes.device)) if "autocast" in on else None
    if "compile" in on:
        for network in networks:
            network.compile()

    def call(network: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast(z.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            result: Tensor = network(x)
        return result.float()

    def descend(logits: Tensor, target: Tensor) -> Tensor:
        loss = binary_cross_entropy_with_logits(logits, target)
        loss.backward()
        return loss

    def step() -> None:
        adam_d.zero_grad()
        descend(call(d, real), one)
        fake = call(g, z)
        descend(call(d, fake.detach()), zero)
        adam_d.step()
        adam_g.zero_grad()
        d.requires_grad_("frozen" not in on)
        descend(call(d, fake), one).item()
        d.requires_grad_(True)
        adam_g.step()

    return step


if __name__ == "__main__":
    main()
