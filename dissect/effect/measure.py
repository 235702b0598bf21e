"""What an edit did: how much of a concept it removed, and what else it changed.

Counts are kept for every image, so that each figure is a ratio of sums with a bootstrap interval
over images, and edits are compared on the same latents.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect.models import generate_batches
from dissect.segmentation import Segmenter

__all__ = ["Effect", "Interval", "Observed", "joined", "measure", "observe"]

Interval = tuple[float, float]
Edit = Callable[[], AbstractContextManager[None]]
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

    def first(self, n: int) -> "Observed":
        """The same of the first `n` latents."""
        features = None if self.features is None else self.features[:n]
        return Observed(self.images[:n], self.labels[:n], features)


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
        replaced: (N, K) what the concept's pixels became.
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

    def __len__(self) -> int:
        return len(self.before)

    def first(self, n: int) -> "Effect":
        """The effect on the first `n` images alone."""
        cut = {name: value[:n] for name, value in self.rows().items()}
        return replace(self, **cut)  # type: ignore[arg-type]

    def rows(self) -> dict[str, NDArray[Any]]:
        """The fields that have a row an image, by name."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    @classmethod
    def of_rows(
        cls, concept: str, classes: tuple[str, ...], rows: Mapping[str, NDArray[Any]]
    ) -> "Effect":
        """The effect whose `rows` these are."""
        values: dict[str, Any] = {"features": None, **rows}
        return cls(concept=concept, classes=classes, **values)

    def removed(self, rows: NDArray[np.int64] | None = None) -> float:
        """Share of the concept's pixels that are gone; below 0 where there are more after.

        0 where there was none to remove.
        """
        before, after = _picked(self.before, rows), _picked(self.after, rows)
        return float(1 - after.sum() / before.sum()) if before.sum() else 0.0

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

    def replaced_by(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """(K,) what the concept's pixels became, in shares; of the concept itself what is left."""
        counts = _picked(self.replaced, rows).sum(0)
        shares: NDArray[np.float64] = counts / max(int(counts.sum()), 1)
        return shares

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


def observe(
    model: nn.Module,
    segmenter: Segmenter,
    z: Tensor,
    *,
    batch_size: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Observed:
    """What `model` draws of the latents `z`, and what the segmenter sees in it.

    `batch_size` is as `generate` takes it; `progress` is called with the number of images after
    each batch.
    """
    images, labels, features = [], [], []
    for drawn in generate_batches(model, z, batch_size=batch_size):
        images.append(drawn.float().cpu())
        labels.append(segmenter.labels(drawn).to(torch.uint8).cpu())
        if segmenter.features is not None:
            features.append(_features(segmenter, drawn))
        progress(len(drawn))
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
    with_features: bool = True,
    batch_size: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Effect:
    """What `edit` did to the images of `z`.

    Images that it left as they were, to the bit, are not segmented again: where a gate stays shut
    there is nothing to see.

    Args:
        model: the generator, in eval mode; or what `begun_at` gives, with `z` to match.
        segmenter: its eyes.
        z: latents that were not used for choosing the edit.
        concept: the class that was to be removed.
        edit: a context manager's factory, such as `lambda: ablated(model, units)`.
        before: what `observe` saw of the same latents, if it is known already.
        with_features: whether the edited images' features are wanted, for a Fréchet distance.
        batch_size: images made at once, as `generate` takes it.
        progress: called with the number of images after each batch.

    Raises:
        DissectError: a concept that the segmenter does not know, or no latents.
    """
    segmenter.class_id(concept)
    if not len(z):
        raise DissectError("an effect needs at least one latent")
    seen = before or observe(model, segmenter, z, batch_size=batch_size)
    if len(seen.labels) != len(z):
        raise DissectError("what was observed before is of other latents")
    if not with_features:
        seen = replace(seen, features=None)
    parts, first = [], 0
    with edit():
        for drawn in generate_batches(model, z, batch_size=batch_size):
            rows = slice(first, first + len(drawn))
            known = None if seen.features is None else seen.features[rows]
            old = Observed(seen.images[rows], seen.labels[rows], known)
            parts.append(_difference(segmenter, concept, old, drawn))
            progress(len(drawn))
            first += len(drawn)
    return joined(parts)


def joined(parts: Sequence[Effect]) -> Effect:
    """One effect of what was measured in parts, on different latents, in their order.

    Raises:
        DissectError: no parts, or parts of other concepts, classes or features.
    """
    if not parts:
        raise DissectError("there is no effect to join")
    one = parts[0]
    names = set(one.rows())
    for part in parts:
        if (part.concept, part.classes) != (one.concept, one.classes) or set(part.rows()) != names:
            raise DissectError("these effects are not of the same concept and segmenter")
    rows = {name: np.concatenate([part.rows()[name] for part in parts]) for name in names}
    return replace(one, **rows)  # type: ignore[arg-type]


def _difference(segmenter: Segmenter, concept: str, seen: Observed, drawn: Tensor) -> Effect:
    """The effect on one batch: what was seen before against images (n, 3, H, W) after."""
    number, classes = segmenter.class_id(concept), len(segmenter.classes)
    images, old = drawn.float().cpu(), seen.labels.long()
    changed = (images != seen.images).flatten(1).any(1)
    new, features = old.clone(), None if seen.features is None else seen.features.copy()
    if bool(changed.any()):
        rows = changed.to(drawn.device)
        new[changed] = segmenter.labels(drawn[rows]).cpu()
        if features is not None:
            features[changed.numpy()] = _features(segmenter, drawn[rows])
    # Of each image, how many pixels went from each class to each other.
    image = torch.arange(len(old)).reshape(-1, 1, 1)
    pairs = (image * classes + old) * classes + new
    table = torch.bincount(pairs.flatten(), minlength=len(old) * classes**2)
    table = table.reshape(len(old), classes, classes)
    both = table.diagonal(dim1=1, dim2=2)
    region = _grown(old == number)
    change = (images - seen.images).abs().mean(1)
    return Effect(
        concept=concept,
        classes=segmenter.classes,
        before=table[:, number].sum(1).numpy(),
        after=table[:, :, number].sum(1).numpy(),
        both=both.numpy(),
        either=(table.sum(1) + table.sum(2) - both).numpy(),
        outside=_mean_in(change, ~region),
        inside=_mean_in(change, region),
        outside_pixels=(~region).sum((1, 2)).numpy(),
        inside_pixels=region.sum((1, 2)).numpy(),
        replaced=table[:, number].numpy(),
        features=features,
    )


def _features(segmenter: Segmenter, images: Tensor) -> NDArray[np.float64]:
    assert segmenter.features is not None
    found: NDArray[np.float64] = segmenter.features(images).double().cpu().numpy()
    return found


def _mean_in(values: Tensor, where: Tensor) -> NDArray[np.float64]:
    """The mean of (n, H, W) over the pixels `where`, (n,); NaN where there are none."""
    mean: NDArray[np.float64] = (
        ((values * where).sum((1, 2)).double() / where.sum((1, 2))).cpu().numpy()
    )
    return mean


def _grown(mask: Tensor) -> Tensor:
    side = 2 * MARGIN + 1
    return max_pool2d(mask.float().unsqueeze(1), side, 1, MARGIN).squeeze(1) > 0


def _picked(values: NDArray, rows: NDArray[np.int64] | None) -> NDArray:  # type: ignore[type-arg]
    return values if rows is None else values[rows]
