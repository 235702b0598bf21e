"""What a training at scale costs, from rates measured here: `python benchmarks/scale.py`.

Measures on one core, in processor time, what each part of a training does in a second; prints the
rates, and the plan that follows from them and from the assumptions below for 3 million and for 100
million images, as the tables of docs/scale.md.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from dissect._utils.images import to_tensor
from dissect.data import source
from dissect.data.cache import open_payload, write_payload
from dissect.data.decode import square_image
from dissect.data.dedup import first_of_each
from dissect.data.dedup.autoencoder import Autoencoder, normalized
from dissect.models.dcgan import Discriminator, Generator
from dissect.training import TrainConfig, TrainState, save_state
from dissect.training.step import train_step


@dataclass(frozen=True)
class Rates:
    """Measured on one core of this machine."""

    decode: float  # JPEG files of 256x256 to 64x64, images/s
    read: float  # packed 64x64 images at random places, images/s
    hash: float  # 32x32 images to codes, images/s
    group: float  # codes grouped, codes/s
    train: float  # steps of the paper's networks, images/s
    checkpoint_bytes: int
    checkpoint_s: float


@dataclass(frozen=True)
class Assumed:
    """Of a GPU and its machine: not measured."""

    peak: float = 312e12  # bfloat16 operations/s of an A100, by its data sheet
    used: float = 0.25  # of that, by networks of this size
    eight: float = 0.9 * 8  # eight GPUs over one
    cores: int = 16  # a GPU
    dollars: float = 2.5  # a GPU and hour
    file_bytes: float = 15e3  # of an LSUN image


JOBS = {
    "LSUN, 3 million, 5 epochs": (3_033_042, 5),
    "100 million, 1 epoch": (100_000_000, 1),
}
_PACKED_BYTES = 64 * 64 * 3


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description="The plan of docs/scale.md.")
    parser.add_argument("--steps", type=int, default=3, help="of training that are measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rates, assumed = measure(options.steps), Assumed()
    operations = operations_an_image()
    gpu = assumed.peak * assumed.used / operations
    print("| measured on one core of this CPU | |\n|---|---|")
    for what, value in (
        ("decoding JPEG files of 256x256 to 64x64", f"{rates.decode:,.0f} images/s"),
        ("reading packed images at random places", f"{rates.read:,.0f} images/s"),
        ("hashing 32x32 images", f"{rates.hash:,.0f} images/s"),
        ("grouping codes", f"{rates.group / 1e6:.1f} million/s"),
        ("training the paper's networks (width 128, kernel 5)", f"{rates.train:.1f} images/s"),
        (
            "a checkpoint of them",
            f"{rates.checkpoint_bytes / 1e6:.0f} MB, {rates.checkpoint_s:.1f} s without the disk",
        ),
        ("counted: operations an image and step", f"{operations / 1e9:.1f} billion"),
    ):
        print(f"| {what} | {value} |")
    print(
        f"\nAssumed: a GPU at {assumed.peak / 1e12:.0f} Tflop/s, {assumed.used:.0%} of it used, so"
    )
    print(
        f"{gpu:,.0f} images/s; eight GPUs are {assumed.eight:.1f} times one; {assumed.cores} cores"
    )
    print(
        f"and {assumed.dollars} dollars a GPU and hour; {assumed.file_bytes / 1e3:.0f} kB a file."
    )
    for name, (images, epochs) in JOBS.items():
        print(f"\n| {name} | this CPU, one core | one GPU | eight GPUs |\n|---|---|---|---|")
        for row in plan(images, epochs, rates, assumed, gpu):
            print("| " + " | ".join(row) + " |")


def plan(
    images: int, epochs: int, rates: Rates, assumed: Assumed, gpu: float
) -> list[tuple[str, str, str, str]]:
    """The rows of a job's table."""
    cores = (1, assumed.cores, 8 * assumed.cores)
    speeds = (rates.train, gpu, gpu * assumed.eight)
    decode = [images / rates.decode / n for n in cores]
    hashing = [images / rates.hash / n + images / rates.group for n in cores]
    training = [images * epochs / speed for speed in speeds]
    needed = [speed / rates.read for speed in speeds]
    gpus = (0, 1, 8)
    money = [
        n * assumed.dollars * (a + b + c) / 3600
        for n, a, b, c in zip(gpus, decode, hashing, training, strict=True)
    ]
    memory = images * (16 + 16 + 8 + 8 + 8)

    def row(what: str, values: list[str]) -> tuple[str, str, str, str]:
        return what, values[0], values[1], values[2]

    return [
        row("decoding and packing once", [_time(s) for s in decode]),
        row("de-duplication, packed", [_time(s) for s in hashing]),
        row("training", [_time(s) for s in training]),
        row("cores that only read packed images", [f"{n:.2f}" for n in needed]),
        row(
            "cores that would decode every time instead",
            [f"{speed / rates.decode:.1f}" for speed in speeds],
        ),
        row("money", ["-", *(f"{m:,.0f} dollars" for m in money[1:])]),
        row(
            "disk: files, packed", [_sizes(images * assumed.file_bytes, images * _PACKED_BYTES)] * 3
        ),
        row("memory: de-duplication, order of an epoch", [_sizes(memory, images * 8)] * 3),
    ]


def measure(steps: int) -> Rates:
    """The rates of one core, in processor time."""
    random = np.random.default_rng(0)
    small = source("bedrooms", size=64, count=512).images(range(512))
    files = [_jpeg(pixels) for pixels in source("bedrooms", size=256, count=64).images(range(64))]
    decode = _rate(len(files), lambda: [square_image(file, 64) for file in files])
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "block")
        write_payload(path, {}, [small] * 40)
        block = open_payload(path, {})
        assert block is not None
        rows = block.reshape(-1, 64, 64, 3)
        places = [random.integers(0, len(rows), 128) for _ in range(20)]
        read = _rate(128 * 20, lambda: [to_tensor(rows[some]) for some in places])
        config = TrainConfig()
        state = TrainState.start(config, torch.device("cpu"))
        real = to_tensor(small[:128]).contiguous(memory_format=torch.channels_last)
        z = torch.rand(128, 100) * 2 - 1
        train_step(state, real, z)
        train = _rate(128 * steps, lambda: [train_step(state, real, z) for _ in range(steps)])
        began = time.process_time()
        size = save_state(Path(name), state).stat().st_size
        took = time.process_time() - began
    crops = source("bedrooms", size=32, count=1024).images(range(1024))
    autoencoder = Autoencoder().eval()
    with torch.inference_mode():
        coded = _rate(len(crops), lambda: autoencoder.code(normalized(crops)))
    codes = random.integers(0, 2**63, (1_000_000, 2), dtype=np.uint64)
    group = _rate(len(codes), lambda: first_of_each(codes))
    return Rates(decode, read, coded, group, train, size, took)


def operations_an_image() -> float:
    """Multiplications and additions of a step, for one image.

    The generator goes forward once and back once, which costs twice a forward pass; the
    discriminator forward and back on the real and on the generated image, then forward and back to
    the image, without its weights' gradients, for the generator.
    """
    counts = []
    for network, x in (
        (Generator().to("meta"), torch.empty(1, 100, device="meta")),
        (Discriminator().to("meta"), torch.empty(1, 3, 64, 64, device="meta")),
    ):
        network.eval()
        with FlopCounterMode(display=False) as counter:
            network(x)
        counts.append(counter.get_total_flops())
    return float(3 * counts[0] + 8 * counts[1])


def _rate(n: int, work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return n / (time.process_time() - began)


def _jpeg(pixels: "np.typing.NDArray[np.uint8]") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=75)
    return stream.getvalue()


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"


def _sizes(*sizes: float) -> str:
    units = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6))
    found = [next((u for u in units if size >= u[1]), units[-1]) for size in sizes]
    return ", ".join(
        f"{size / unit:.1f} {name}" for size, (name, unit) in zip(sizes, found, strict=True)
    )


if __name__ == "__main__":
    main()
