"""Training the segmenter on renders and their masks, and on samples of the generator it is for."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dissect._utils.device import autocast
from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.progress import ProgressCallback, no_progress
from dissect._utils.random import seeded
from dissect.data import RenderedSource, batch_at
from dissect.segmentation.regions import majority_vote, region_class_ids
from dissect.segmentation.unet import UNet
from dissect.training.augment import copy_paste, degrade
from dissect.training.fit import Fit, one_cycle

__all__ = ["SegmenterConfig", "train_segmenter"]

# The class that things hang on.
_WALL = "wall"
# The class of a pixel that teaches nothing.
_UNSURE = -1
_LABELLED_AT_ONCE = 50

Pair = tuple[Tensor, Tensor]
"""Images (N, 3, H, W) in [-1, 1] and the class of every pixel (N, H, W)."""


@dataclass(frozen=True, repr=False)
class SegmenterConfig(ShortRepr):
    """How a segmenter is trained."""

    steps: int = 2_100
    batch_size: int = 32
    seed: int = 0
    learning_rate: float = 3e-3
    widths: tuple[int, ...] = (40, 80, 160)
    clean_fraction: float = 0.25  # of each batch that is left as it is
    balance: float = 0.1  # power of a class's fraction of pixels by which its weight is divided
    adapt_from: float = 0.7  # fraction of the steps after which samples are learned from
    adapt_rate: float = 1e-3  # learning rate of that part
    # Classes of things on walls: they are moved between images, and each region has one class.
    region_classes: tuple[str, ...] = ("window", "picture", "mirror")
    sure: float = 0.8  # probability from which its own label of a sample's pixel is believed

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 4 or not self.learning_rate > 0:
            raise DissectError("steps must be at least 1, batch_size 4, learning_rate above 0")


def train_segmenter(
    source: RenderedSource,
    config: SegmenterConfig | None = None,
    *,
    samples: Tensor | None = None,
    device: str | torch.device = "cpu",
    progress: ProgressCallback = no_progress,
) -> UNet:
    """A segmenter of `source`'s classes, in eval mode.

    Cross-entropy in which a class weighs more the rarer it is, AdamW with one cycle of the
    learning rate. Given samples of a generator, it gets used to them in a second cycle: half of
    each batch are samples with the labels that the network itself is sure of (self-training; the
    mixing of the two worlds after DACS, Tranheden et al. 2021).

    Args:
        source: renders with masks.
        config: how; None is the default.
        samples: images of a generator (N, 3, H, W) in [-1, 1], without labels.
        device: where.
        progress: called every ten steps with their number, and the loss and images/s in words.

    Raises:
        DissectError: samples of another size than the renders; the loss is not a number.
    """
    config = config or SegmenterConfig()
    device = torch.device(device)
    with seeded(config.seed):
        region_classes = [name for name in config.region_classes if name in source.classes]
        network = UNet(source.classes, config.widths, region_classes)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = _class_weights(source, config).to(device)
    make = _Batches(source, samples, config)
    optimizer, schedule = _cycle(network, config.learning_rate, make.adapting)
    fit = Fit(config.steps, config.batch_size, progress)
    network.train()
    for step in range(1, config.steps + 1):
        if step == make.adapting + 1:
            optimizer, schedule = _cycle(network, config.adapt_rate, config.steps - make.adapting)
        if step in make.labelling_steps:
            make.labels = _own_labels(network, make.samples, config.sure, make.things, device)
        images, target = make.batch(step)
        images = images.to(device, memory_format=torch.channels_last)
        with autocast(device):
            logits = network(images)
        loss = functional.cross_entropy(
            logits.float(), target.to(device), weights, ignore_index=_UNSURE
        )
        fit.descend(step, loss, optimizer, schedule)
    return network.eval()


def _cycle(
    network: UNet, rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, whose rate rises for a tenth of so many steps and falls for the others."""
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-4)
    schedule = one_cycle(optimizer, rate, max(steps, 1))
    return optimizer, schedule


class _Batches:
    """What each step learns from; all chance in it is drawn in the order of the steps."""

    def __init__(
        self, source: RenderedSource, samples: Tensor | None, config: SegmenterConfig
    ) -> None:
        size = (source.size, source.size)
        if samples is not None and (samples.ndim != 4 or tuple(samples.shape[2:]) != size):
            raise DissectError(
                f"the samples must be of the renders' size, {size[0]}x{size[1]}; "
                f"got {tuple(samples.shape)}"
            )
        self.source, self.config = source, config
        self.samples = torch.empty(0, 3, *size) if samples is None else samples.cpu()
        self.labels = torch.empty(0, *size, dtype=torch.int64)
        self.random = torch.Generator().manual_seed(config.seed)
        self.things = region_class_ids(source.classes, config.region_classes)
        self.wall = source.classes.index(_WALL) if _WALL in source.classes else None
        self.adapting = config.steps if samples is None else int(config.adapt_from * config.steps)
        # The labels are made twice, better the second time.
        middle = (self.adapting + config.steps) // 2
        self.labelling_steps = () if samples is None else (self.adapting + 1, middle + 1)

    def batch(self, step: int) -> Pair:
        """Images and classes of a step, counted from 1."""
        count = self.config.batch_size
        if step <= self.adapting:
            images, target = self._degraded(self._copy_pasted(self._renders(step, count)))
        else:
            renders = self._renders(step, count // 2)
            own = self._drawn(len(self.samples), count - count // 2, step)
            samples = self.samples[own], self.labels[own]
            parts = [
                self._degraded(self._copy_pasted(renders)),
                self._degraded(self._pasted_onto(samples, renders)),
            ]
            images, target = (torch.cat(both) for both in zip(*parts, strict=True))
        if bool(torch.rand((), generator=self.random) < 0.5):
            return images.flip(3), target.flip(2)
        return images, target

    def _drawn(self, length: int, count: int, step: int) -> NDArray[np.int64]:
        return batch_at(length, count, self.config.seed, step - 1)

    def _renders(self, step: int, count: int) -> Pair:
        rows = self._drawn(len(self.source), count, step)
        masks = torch.from_numpy(self.source.masks(rows)).long()
        return to_tensor(self.source.images(rows)), masks

    def _clean(self, images: Tensor) -> int:
        return round(self.config.clean_fraction * len(images))

    def _copy_pasted(self, pair: Pair) -> Pair:
        """All but the clean ones with things of one another."""
        kept = self._clean(pair[0])
        others = pair[0][kept:], pair[1][kept:]
        if self.wall is None or not len(self.things):
            return pair
        pasted = copy_paste(*others, *others, self.things, self.wall, self.random)
        return torch.cat([pair[0][:kept], pasted[0]]), torch.cat([pair[1][:kept], pasted[1]])

    def _pasted_onto(self, samples: Pair, renders: Pair) -> Pair:
        """Half of the samples with things of renders on their walls."""
        if self.wall is None or not len(self.things):
            return samples
        half = min(len(samples[0]) // 2, len(renders[0]))
        (images, masks), (others, other_masks) = samples, renders
        pasted = copy_paste(
            *(images[-half:], masks[-half:], others[-half:], other_masks[-half:]),
            *(self.things, self.wall, self.random),
        )
        return torch.cat([images[:-half], pasted[0]]), torch.cat([masks[:-half], pasted[1]])

    def _degraded(self, pair: Pair) -> Pair:
        kept = self._clean(pair[0])
        rough = degrade(pair[0][kept:], pair[1][kept:], self.random)
        return torch.cat([pair[0][:kept], rough[0]]), torch.cat([pair[1][:kept], rough[1]])


def _own_labels(
    network: UNet, images: Tensor, sure: float, things: Tensor, device: torch.device
) -> Tensor:
    """What the network says of images and of their mirror images; `_UNSURE` where it is not.

    Each region of `things` is of one class.
    """
    network.eval()
    labels = []
    with torch.no_grad(), autocast(device):
        for part in images.split(_LABELLED_AT_ONCE):
            seen = part.to(device, memory_format=torch.channels_last)
            plain = torch.softmax(network(seen).float(), 1)
            mirrored = torch.softmax(network(seen.flip(3)).float(), 1).flip(3)
            probability = ((plain + mirrored) / 2).cpu()
            highest, label = probability.max(1)
            whole = majority_vote(label, probability[:, things], things)
            labels.append(torch.where(highest >= sure, whole, _UNSURE))
    network.train()
    return torch.cat(labels)


def _class_weights(source: RenderedSource, config: SegmenterConfig) -> Tensor:
    drawn = np.random.default_rng(config.seed).integers(0, len(source), min(len(source), 500))
    counts = np.bincount(source.masks(drawn).ravel(), minlength=len(source.classes))
    fraction = np.maximum(counts / counts.sum(), 1e-4)
    weights = fraction**-config.balance
    return torch.from_numpy(weights / (weights * fraction).sum()).float()
