"""From images to codes of 128 bits that a copy shares with its original.

A bit turns when a copy's activation falls on the other side of the unit's threshold, and a code is
equal only if no bit turns: of 40 bits that turn in 1 copy of 100, a third of the copies would lose
their code. So the autoencoder learns to undo what happens to copies (its denoising noise); the
bits are those that disturbed copies turn least for what they tell; and an image's two bits whose
activations lie nearest to their thresholds, within what copies move them, are looked up both ways
(see `first_alike`). Bits that are not used are 0 in every code.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect._utils.random import seeded
from dissect.data.dedup.autoencoder import CODE_BITS, Autoencoder, normalized
from dissect.data.dedup.disturb import jpeg_jitter
from dissect.data.dedup.groups import CERTAIN, first_alike
from dissect.data.protocol import ImageSource

__all__ = ["Hasher", "fit_hasher", "hash_images"]

_BATCH = 128
# With 3072 inputs a larger step silences units for good.
_LEARNING_RATE = 2e-4
# How many images the autoencoder learns from; the bits are chosen on as many copies at most.
_LEARN_FROM, _CHOOSE_FROM = 20_000, 8_000
_ENCODE_AT_ONCE = 1024
_LEAST_BITS = 45
# A bit that is nearly always the same tells little and is left out; so is one that says what
# another says.
_LEAST_ENTROPY, _REPEATS = 0.1, 0.95
# A bit is in doubt within so many deviations of what copies move its activation by.
_DOUBT = 4.0

Codes = tuple[NDArray[np.uint64], NDArray[np.uint8]]


@dataclass(frozen=True, repr=False)
class Hasher(ShortRepr):
    """A trained autoencoder, and what makes bits of its code.

    Attributes:
        autoencoder: in eval mode.
        thresholds: (128,) of each unit; infinite where the bit is not used.
        spread: (128,) the standard deviation of what copies move each activation by.
        expected_missed: the fraction of disturbed copies that were not alike to their originals,
            when the bits were chosen.
    """

    autoencoder: Autoencoder
    thresholds: Tensor
    spread: Tensor
    expected_missed: float = 0.0

    @property
    def n_bits(self) -> int:
        """How many of the 128 bits are used."""
        return int(self.thresholds.isfinite().sum())

    def codes(self, images: NDArray[np.uint8]) -> Codes:
        """The codes (N, 2) of images (N, 32, 32, 3), 128 bits each, and two bits of each (N, 2).

        These are the bits nearest to their thresholds, which a copy may well turn. The nearer one
        comes first; CERTAIN stands for none.

        Raises:
            DissectError: images of another shape.
        """
        return self._of(_activations(self.autoencoder, images))

    def _of(self, activations: Tensor) -> Codes:
        bits = (activations > self.thresholds).numpy()
        packed: NDArray[np.uint64] = np.packbits(bits, axis=1).view(np.uint64)
        margins = (activations - self.thresholds).abs_().div_(self.spread)
        nearest, places = margins.topk(2, largest=False)
        near_threshold = places.masked_fill(nearest > _DOUBT, CERTAIN).to(torch.uint8)
        return packed, near_threshold.numpy()


def fit_hasher(
    source: ImageSource,
    *,
    steps: int = 3_000,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> Hasher:
    """A hasher for `source`, whose images are 32x32 centre crops.

    Args:
        source: 32x32 images; 20,000 of them, drawn by chance, are learned from.
        steps: of 128 images each.
        seed: of the weights, the order and the noise.
        progress: called after each step with 1.

    Raises:
        DissectError: images of another size, or too few to learn from.
    """
    if len(source) < _BATCH:
        raise DissectError(f"{source.name} has {len(source)} images; a code needs {_BATCH} or more")
    random = np.random.default_rng(seed)
    drawn = random.choice(len(source), min(len(source), _LEARN_FROM), replace=False)
    images = source.images(np.sort(drawn))
    with seeded(seed):
        autoencoder = Autoencoder()
        optimizer = torch.optim.Adam(autoencoder.parameters(), _LEARNING_RATE, fused=True)
        for _ in range(steps):
            clean = images[random.integers(0, len(images), _BATCH)]
            restored = autoencoder(normalized(jpeg_jitter(clean, random)))
            loss = functional.mse_loss(restored, normalized(clean))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            progress(1)
    if not bool(loss.isfinite()):
        raise DissectError("the autoencoder broke down: its loss is not a number")
    autoencoder.eval().requires_grad_(False)
    some = images[random.permutation(len(images))[:_CHOOSE_FROM]]
    return _with_bits(autoencoder, some, _bits_for(len(source)), random)


def hash_images(
    hasher: Hasher, source: ImageSource, *, progress: ProgressCallback = no_progress
) -> Codes:
    """What `Hasher.codes` gives of all of `source`, which is read once, in parts."""
    codes = np.empty((len(source), CODE_BITS // 64), np.uint64)
    near_threshold = np.empty((len(source), 2), np.uint8)
    for start in range(0, len(source), _ENCODE_AT_ONCE):
        stop = min(start + _ENCODE_AT_ONCE, len(source))
        codes[start:stop], near_threshold[start:stop] = hasher.codes(
            source.images(np.arange(start, stop))
        )
        progress(stop - start)
    return codes, near_threshold


def _activations(autoencoder: Autoencoder, images: NDArray[np.uint8]) -> Tensor:
    with torch.inference_mode():
        parts = [
            autoencoder.code(normalized(images[start : start + _ENCODE_AT_ONCE]))
            for start in range(0, len(images), _ENCODE_AT_ONCE)
        ]
    return torch.cat(parts) if parts else torch.empty(0, CODE_BITS)


def _with_bits(
    autoencoder: Autoencoder, images: NDArray[np.uint8], most: int, random: np.random.Generator
) -> Hasher:
    """The hasher whose bits are the ones that copies keep."""
    clean = _activations(autoencoder, images).numpy()
    copies = _activations(autoencoder, jpeg_jitter(images, random)).numpy()
    middle = _middles(clean)
    bits, copied = clean > middle, copies > middle
    turned, fraction = (bits != copied).mean(0), bits.mean(0)
    entropy = -(
        fraction * np.log2(fraction + 1e-12) + (1 - fraction) * np.log2(1 - fraction + 1e-12)
    )
    signs = (bits - fraction) / np.maximum(bits.std(0), 1e-6)
    correlation = np.abs(signs.T @ signs) / len(signs)
    chosen: list[int] = []
    for unit in np.argsort(turned / np.maximum(entropy, 1e-6), kind="stable").tolist():
        tells = entropy[unit] >= _LEAST_ENTROPY
        if tells and len(chosen) < most and not (correlation[unit, chosen] > _REPEATS).any():
            chosen.append(unit)
    thresholds = torch.full((CODE_BITS,), torch.inf)
    thresholds[chosen] = torch.from_numpy(middle[chosen])
    spread = torch.from_numpy((copies - clean).std(0)).clamp_(min=1e-6)
    hasher = Hasher(autoencoder, thresholds, spread)
    pairs = [hasher._of(torch.from_numpy(activations)) for activations in (clean, copies)]
    codes, near_threshold = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    first = first_alike(codes, near_threshold)
    missed = float((first[: len(images)] != first[len(images) :]).mean())
    return replace(hasher, expected_missed=missed)


def _bits_for(count: int) -> int:
    """How many bits tell `count` images apart: more bits are turned more often.

    The pairs that could share a code by chance are about count squared, and bits are not
    independent of one another.
    """
    return min(CODE_BITS, max(_LEAST_BITS, round(2 * math.log2(count) + 20)))


def _middles(activations: NDArray[np.float32]) -> NDArray[np.float32]:
    """The median of each unit; of one that is silent for most images, of those where it speaks."""
    middles: NDArray[np.float32] = np.median(activations, axis=0)
    for unit in np.flatnonzero(middles <= 0).tolist():
        spoken = activations[activations[:, unit] > 0, unit]
        middles[unit] = np.median(spoken) if len(spoken) else 0
    return middles
