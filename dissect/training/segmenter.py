"""Training the segmenter on renders and their masks."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dissect.data import RenderedSource, batches, to_tensor
from dissect.errors import DissectError
from dissect.segment.network import UNet
from dissect.training.augment import roughen
from dissect.training.device import autocast_dtype, keep_freed_memory

__all__ = ["SegmenterConfig", "train_segmenter"]


@dataclass(frozen=True)
class SegmenterConfig:
    """How a segmenter is trained."""

    steps: int = 1_500
    batch_size: int = 32
    seed: int = 0
    learning_rate: float = 3e-3
    widths: tuple[int, ...] = (40, 80, 160)
    clean_share: float = 0.25  # of each batch that is left as it was rendered

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2 or not self.learning_rate > 0:
            raise DissectError("steps must be at least 1, batch_size 2, learning_rate above 0")


def train_segmenter(
    source: RenderedSource,
    config: SegmenterConfig | None = None,
    *,
    device: str | torch.device = "cpu",
    watch: Callable[[int, float, float], None] | None = None,
) -> UNet:
    """A segmenter of `source`'s classes, in eval mode.

    Cross-entropy in which a class weighs more the rarer it is (by the inverse square root of its
    share of pixels), AdamW with one cycle of the learning rate.

    Args:
        source: renders with masks.
        config: how; None is the default.
        device: where.
        watch: called each ten steps with the step, the loss and images a second.

    Raises:
        DissectError: the loss is not a number.
    """
    config = config or SegmenterConfig()
    place = torch.device(device)
    if place.type == "cpu":
        keep_freed_memory()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = UNet(source.classes, config.widths)
    network.to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = _class_weights(source, config.seed).to(place)
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.1
    )
    random = torch.Generator().manual_seed(config.seed)
    dtype = autocast_dtype(place)
    order = batches(source, config.batch_size, config.seed)
    clock = time.perf_counter()
    network.train()
    for step in range(1, config.steps + 1):
        indices = next(order)
        clean = to_tensor(source.images(indices))
        target = torch.from_numpy(source.masks(indices)).long().to(place)
        kept = round(config.clean_share * len(clean))
        images = torch.cat([clean[:kept], roughen(clean[kept:], random)])
        if bool(torch.rand((), generator=random) < 0.5):
            images, target = images.flip(3), target.flip(2)
        images = images.to(place, memory_format=torch.channels_last)
        with torch.autocast(place.type, dtype or torch.bfloat16, enabled=dtype is not None):
            logits = network(images)
        loss = functional.cross_entropy(logits.float(), target, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 0 or step == config.steps:
            value = float(loss.detach())
            if not np.isfinite(value):
                raise DissectError(f"training broke down at step {step}: the loss is not a number")
            if watch is not None:
                rate = config.batch_size * 10 / (time.perf_counter() - clock)
                watch(step, value, rate)
            clock = time.perf_counter()
    return network.eval()


def _class_weights(source: RenderedSource, seed: int) -> Tensor:
    drawn = np.random.default_rng(seed).integers(0, len(source), min(len(source), 500))
    counts = np.bincount(source.masks(drawn).ravel(), minlength=len(source.classes))
    share = np.maximum(counts / counts.sum(), 1e-4)
    weights = share**-0.5
    return torch.from_numpy(weights / (weights * share).sum()).float()
