"""What each part of a training does in a second on one core: `python benchmarks/scale.py`.

In processor time, so that other load on the machine counts for little; the table of docs/scale.md.
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


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="The rates of docs/scale.md.")
    parser.add_argument("--steps", type=int, default=3, help="of training that are measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rates = measure(options.steps)
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
        ("counted: operations an image and step", f"{operations_an_image() / 1e9:.1f} billion"),
    ):
        print(f"| {what} | {value} |")


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


if __name__ == "__main__":
    main()
