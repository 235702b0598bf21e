"""What an edit did: how much of a concept it removed, and what else it changed.

Counts are kept for every image, so that each figure is a ratio of sums with a bootstrap interval
over images, and edits are compared on the same latents.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from dissect.errors import DissectError
from dissect.segment import Segmenter

__all__ = ["Effect", "Interval", "Observed", "frechet_distance", "measure", "observe"]

Interval = tuple[float, float]
Edit = Callable[[], AbstractContextManager[None]]

_BATCH = 100
# An image shows a concept from so many pixels of it on; fewer are specks of the segmenter.
PRESENT = 20
# The concept's region is its mask and this many pixels around it: edges are part of a window.
MARGIN = 2


@dataclass(frozen=True)
class Observed:
    """The images of some latents as the segmenter sees them, before any edit.

    Attributes:
        images: (N, 3, H, W) float32 on the CPU, in [-1, 1].
        labels: (N, H, W) uint8, the class of every pixel.
        features: (N, F), where the segmenter has any.
    """

    images: Tensor
    labels: Tensor
    features: NDArray[np.float64] | None


@dataclass(frozen=True)
class Effect:
    """One edit against no edit, image by image; N images, K classes.

    Attributes:
        concept: the class that was to be removed.
        classes: the names of all K.
        before, after: (N,) pixels of the concept.
        both, either: (N, K) pixels that are of a class before and after; before or after.
        outside, inside: (N,) mean absolute change outside the concept's region and inside it, on
            the [-1, 1] scale; NaN where there is no such pixel.
        outside_pixels, inside_pixels: (N,) how many pixels those means are over.
        replaced: (K,) what the concept's pixels became.
        features: (N, F) of the edited images, or None.
    """

    concept: str
    classes: tuple[str, ...]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    both: NDArray[np.int64]
    either: NDArray[np.int64]
    outside: NDArray[np.float64]
    inside: NDArray[np.float64]
    outside_pixels: NDArray[np.int64]
    inside_pixels: NDArray[np.int64]
    replaced: NDArray[np.int64]
    features: NDArray[np.float64] | None

    def removed(self, rows: NDArray[np.int64] | None = None) -> float:
        """Share of the concept's pixels that are gone; below 0 where there are more after."""
        before, after = _picked(self.before, rows), _picked(self.after, rows)
        return float(1 - after.sum() / max(before.sum(), 1))

    def shown(self, rows: NDArray[np.int64] | None = None) -> tuple[float, float]:
        """Share of images that show the concept, before and after."""
        before, after = _picked(self.before, rows), _picked(self.after, rows)
        return float((before >= PRESENT).mean()), float((after >= PRESENT).mean())

    def kept(self, name: str, rows: NDArray[np.int64] | None = None) -> float:
        """IoU of the class `name` before and after, over all images together."""
        k = self.classes.index(name)
        both, either = _picked(self.both[:, k], rows), _picked(self.either[:, k], rows)
        return float(both.sum() / either.sum()) if either.sum() else 1.0

    def kept_mean(self, rows: NDArray[np.int64] | None = None) -> float:
        """Mean of `kept` over every other class."""
        return float(np.mean([self.kept(c, rows) for c in self.classes if c != self.concept]))

    def change(self, *, outside: bool = True, rows: NDArray[np.int64] | None = None) -> float:
        """Mean absolute change of a value outside the concept's region, or inside it."""
        mean, pixels = (
            (self.outside, self.outside_pixels) if outside else (self.inside, self.inside_pixels)
        )
        mean, pixels = _picked(mean, rows), _picked(pixels, rows)
        total = pixels.sum()
        return float((np.nan_to_num(mean) * pixels).sum() / total) if total else 0.0

    def interval(
        self,
        figure: Callable[["Effect", NDArray[np.int64]], float],
        *,
        resamples: int = 200,
        seed: int = 0,
    ) -> Interval:
        """The 95% bootstrap interval of a figure, from resampled images."""
        random = np.random.default_rng(seed)
        n = len(self.before)
        values = [figure(self, random.integers(0, n, n)) for _ in range(resamples)]
        low, high = np.quantile(values, (0.025, 0.975))
        return float(low), float(high)


def observe(model: nn.Module, segmenter: Segmenter, z: Tensor) -> Observed:
    """What `model` draws of the latents `z`, and what the segmenter sees in it."""
    images, labels, features = [], [], []
    for part in z.split(_BATCH):
        drawn = _draw(model, part)
        images.append(drawn.float().cpu())
        labels.append(segmenter.labels(drawn).to(torch.uint8).cpu())
        if segmenter.features is not None:
            features.append(segmenter.features(drawn).double().cpu().numpy())
    return Observed(
        torch.cat(images), torch.cat(labels), np.concatenate(features) if features else None
    )


def measure(
    model: nn.Module,
    segmenter: Segmenter,
    z: Tensor,
    concept: str,
    edit: Edit,
    *,
    before: Observed | None = None,
) -> Effect:
    """What `edit` did to the images of `z`.

    Args:
        model: the generator, in eval mode.
        segmenter: its eyes.
        z: latents that were not used for choosing the edit.
        concept: the class that was to be removed.
        edit: a context manager's factory, such as `lambda: ablated(model, units)`.
        before: what `observe` saw of the same latents, if it is known already.

    Raises:
        DissectError: a concept that the segmenter does not know, or no latents.
    """
    number = segmenter.number(concept)
    if not len(z):
        raise DissectError("an effect needs at least one latent")
    seen = before or observe(model, segmenter, z)
    if len(seen.labels) != len(z):
        raise DissectError("what was observed before is of other latents")
    classes = len(segmenter.classes)
    parts: dict[str, list[NDArray[np.generic]]] = {}
    replaced = np.zeros(classes, np.int64)
    features: list[NDArray[np.float64]] = []
    for first in range(0, len(z), _BATCH):
        rows = slice(first, first + _BATCH)
        with edit():
            drawn = _draw(model, z[rows])
        labels = segmenter.labels(drawn).cpu()
        old = seen.labels[rows].long()
        mask = old == number
        region = _grown(mask)
        change = (drawn.float().cpu() - seen.images[rows]).abs().mean(1)
        one_old = torch.nn.functional.one_hot(old, classes).flatten(1, 2).bool()
        one_new = torch.nn.functional.one_hot(labels, classes).flatten(1, 2).bool()
        counted = {
            "before": mask.sum((1, 2)),
            "after": (labels == number).sum((1, 2)),
            "both": (one_old & one_new).sum(1),
            "either": (one_old | one_new).sum(1),
            "outside": (change * ~region).sum((1, 2)).double() / (~region).sum((1, 2)),
            "inside": (change * region).sum((1, 2)).double() / region.sum((1, 2)),
            "outside_pixels": (~region).sum((1, 2)),
            "inside_pixels": region.sum((1, 2)),
        }
        for name, value in counted.items():
            parts.setdefault(name, []).append(value.numpy())
        replaced += np.bincount(labels[mask].numpy(), minlength=classes)
        if segmenter.features is not None:
            features.append(segmenter.features(drawn).double().cpu().numpy())
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return Effect(
        concept=concept,
        classes=segmenter.classes,
        replaced=replaced,
        features=np.concatenate(features) if features else None,
        **joined,
    )


def frechet_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Fréchet distance between two sets of features (n, F), each taken for normal.

    |m1 - m2|^2 + trace(S1 + S2 - 2 (S1 S2)^(1/2)) (Heusel et al. 2017, section 3). In the
    features of a segmenter its numbers are not those of Inception; they compare with one another.
    """
    means = first.mean(0) - second.mean(0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # The trace of the root of a product: by the eigenvalues of the symmetric form, which are not
    # negative but for rounding.
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    middle = np.clip(np.linalg.eigvalsh(root @ two @ root), 0, None)
    return float(means @ means + np.trace(one) + np.trace(two) - 2 * np.sqrt(middle).sum())


def _draw(model: nn.Module, z: Tensor) -> Tensor:
    with torch.inference_mode():
        images: Tensor = model(z)
    return images


def _grown(mask: Tensor) -> Tensor:
    side = 2 * MARGIN + 1
    return max_pool2d(mask.float().unsqueeze(1), side, 1, MARGIN).squeeze(1) > 0


def _picked(values: NDArray, rows: NDArray[np.int64] | None) -> NDArray:  # type: ignore[type-arg]
    return values if rows is None else values[rows]
