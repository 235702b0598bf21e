"""What writing features costs, beside the bare forward passes: `python benchmarks/features.py`.

Bare: the discriminator's convolutions called one after the other on a batch that is a tensor
already, nothing kept, in the layout of memory that is fastest (channels last). Features:
`dissect.representation.discriminator_features`, with the images turned into tensors, pooled, and
written with a checksum to a file in a cache folder of its own, which is then mapped. At most 1.2
times the bare time is allowed. Each repeat runs both, in turns; the table gives the median ratio.
60,000 images of noise stand for CIFAR-10: the time does not depend on what they show.
"""

import argparse
import os
import statistics
import tempfile
import time

import numpy as np
import torch

from dissect._utils.images import to_tensor
from dissect.data import LabelledSource
from dissect.models import Discriminator
from dissect.representation import discriminator_features, feature_layers

BATCH = 100


def bare(model: Discriminator, images: LabelledSource) -> None:
    """Every image through the convolutions; one batch of pixels serves for all."""
    layers = [model.get_submodule(name) for name in feature_layers(model)]
    x = to_tensor(images.images(range(BATCH))).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for _ in range(0, len(images), BATCH):
            y = x
            for layer in layers:
                y = layer(y)


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description="What writing features costs.")
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--kernel", type=int, choices=(4, 5), default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count the seconds computed, not those that pass (for a busy machine; the wait for "
        "the disk is not counted then)",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.processor_time else time.perf_counter
    model = Discriminator(options.width, 32, kernel=options.kernel).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = np.random.default_rng(0).integers(0, 256, (options.images, 32, 32, 3), np.uint8)
    images = LabelledSource("noise", pixels, np.zeros(len(pixels), np.int64), ("noise",))
    plain, whole = [], []
    for _ in range(options.repeats):
        began = clock()
        bare(model, images)
        plain.append(clock() - began)
        with tempfile.TemporaryDirectory() as folder:
            os.environ["DISSECT_CACHE"] = folder
            began = clock()
            features = discriminator_features(model, images, show_progress=False)
            whole.append(clock() - began)
            del features
    ratio = statistics.median(b / a for a, b in zip(plain, whole, strict=True))
    print(
        f"{options.images} images, width {options.width}, kernel {options.kernel}, "
        f"{options.threads} threads, {'processor' if options.processor_time else 'wall'} time"
    )
    print(f"bare forward passes   {statistics.median(plain):8.1f} s")
    print(f"features in the cache {statistics.median(whole):8.1f} s   {ratio:.3f} times")


if __name__ == "__main__":
    main()
