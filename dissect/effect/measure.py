"""What an edit did: how much of a concept it removed, and what else it changed.

Counts are kept for every image, so that each figure is a ratio of sums with a bootstrap interval
over images, and edits are compared on the same latents.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect._utils.result import Result
from dissect._utils.stats import Estimate, ratio, resampling_counts
from dissect.models import Edit, generate_batches
from dissect.segmentation import Segmenter
from dissect.segmentation.segmenter import image_features

__all__ = [
    "Effect",
    "Figures",
    "Observed",
    "grown",
    "is_shown",
    "joined",
    "measure_effect",
    "observe",
]

ContextFactory = Callable[[], AbstractContextManager[None]]
# An image shows a concept from this fraction of its area on (20 pixels of a 64-pixel image); less
# would often be an error of the segmenter.
PRESENT = 20 / 64**2
# The concept's region is its mask and a margin of this fraction of the image's side (2 of 64
# pixels): the edges belong to a window.
MARGIN = 2 / 64


@dataclass(frozen=True, repr=False)
class Observed(ShortRepr):
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


@dataclass(frozen=True, repr=False)
class Effect(Result):
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

    def summary(self) -> dict[str, Any]:
        """The concept, the number of images, and the main figures."""
        return {
            "concept": self.concept,
            "n": len(self),
            "removal": self.removal(),
            "shown_after": self.prevalence_before_after()[1],
            "mean_iou_kept": self.mean_iou_kept(),
            "outside_change": self.change(),
        }

    def first(self, n: int) -> "Effect":
        """The effect on the first `n` images alone."""
        cut = {name: value[:n] for name, value in self.arrays().items()}
        return replace(self, **cut)  # type: ignore[arg-type]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The fields that have a row an image, by name."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    @classmethod
    def from_arrays(
        cls, concept: str, classes: tuple[str, ...], rows: Mapping[str, NDArray[Any]]
    ) -> "Effect":
        """The effect whose `arrays` these are."""
        values: dict[str, Any] = {"features": None, **rows}
        return cls(concept=concept, classes=classes, **values)

    def figures(self, weights: NDArray[np.float64] | None = None) -> "Figures":
        """Every figure of the effect, on all images or on resamples of them.

        Args:
            weights: (R, N), how often each image counts (`resampling_counts`); None is once.
        """
        if weights is None:
            weights = np.ones((1, len(self)))
        before, after = weights @ self.before, weights @ self.after
        ious = ratio(weights @ self.both, weights @ self.either)
        others = [k for k, name in enumerate(self.classes) if name != self.concept]
        defined = ~np.isnan(ious[:, others])
        replaced = weights @ self.replaced
        shown = PRESENT * (self.outside_pixels + self.inside_pixels)
        images = weights.sum(1)
        return Figures(
            removal=1 - ratio(after, before),
            shown_before=ratio(weights @ (self.before >= shown), images),
            shown_after=ratio(weights @ (self.after >= shown), images),
            ious=ious,
            mean_iou_kept=ratio(np.nan_to_num(ious[:, others]).sum(1), defined.sum(1)),
            outside_change=self._change(weights, self.outside, self.outside_pixels),
            inside_change=self._change(weights, self.inside, self.inside_pixels),
            replacement=ratio(replaced, replaced.sum(1, keepdims=True)),
        )

    def _change(
        self, weights: NDArray[np.float64], mean: NDArray[np.float64], pixels: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        return ratio(weights @ (np.nan_to_num(mean) * pixels), weights @ pixels)

    def removal(self) -> float:
        """Fraction of the concept's pixels that are gone; below 0 where there are more after.

        NaN where there was none to remove.
        """
        return float(self.figures().removal[0])

    def prevalence_before_after(self) -> tuple[float, float]:
        """Fraction of images that show the concept, before and after."""
        figures = self.figures()
        return float(figures.shown_before[0]), float(figures.shown_after[0])

    def iou_kept(self, name: str) -> float:
        """IoU of the class `name` before and after, over all images; NaN where it is in none."""
        return float(self.figures().ious[0, self.classes.index(name)])

    def mean_iou_kept(self) -> float:
        """Mean of `iou_kept` over the other classes that are in any image."""
        return float(self.figures().mean_iou_kept[0])

    def replacement(self) -> NDArray[np.float64]:
        """(K,) what the concept's pixels became, as fractions; of the concept, what is left."""
        row: NDArray[np.float64] = self.figures().replacement[0]
        return row

    def change(self, *, outside: bool = True) -> float:
        """Mean absolute change of a value outside the concept's region, or inside it."""
        figures = self.figures()
        return float((figures.outside_change if outside else figures.inside_change)[0])

    def estimate(self, figure: str, *, resamples: int = 1_000, seed: int = 0) -> Estimate:
        """A figure of `Figures` with one value a row, and its 95% bootstrap interval over images.

        Args:
            figure: its name, such as `removal`.
            resamples: for the interval.
            seed: of the resamples.
        """
        weights = resampling_counts(len(self), resamples, seed)
        return Estimate.from_resamples(getattr(self.figures(weights), figure))


class Figures(NamedTuple):
    """The figures of an effect on R resamples of its images; NaN where nothing was to measure.

    Attributes:
        removal: (R,) fraction of the concept's pixels that are gone.
        shown_before, shown_after: (R,) fraction of the images that show the concept.
        ious: (R, K) IoU of each class before and after.
        mean_iou_kept: (R,) mean of those over the classes but the concept.
        outside_change, inside_change: (R,) mean absolute change outside the concept's region and
            inside it, on the [-1, 1] scale.
        replacement: (R, K) what the concept's pixels became, as fractions.
    """

    removal: NDArray[np.float64]
    shown_before: NDArray[np.float64]
    shown_after: NDArray[np.float64]
    ious: NDArray[np.float64]
    mean_iou_kept: NDArray[np.float64]
    outside_change: NDArray[np.float64]
    inside_change: NDArray[np.float64]
    replacement: NDArray[np.float64]


def is_shown(mask: Tensor) -> Tensor:
    """(N,) whether images with this mask (N, H, W) show its concept: by `PRESENT` of the area."""
    return mask.flatten(1).sum(1) >= PRESENT * mask[0].numel()


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
            features.append(image_features(segmenter, drawn))
        progress(len(drawn))
    return Observed(
        torch.cat(images), torch.cat(labels), np.concatenate(features) if features else None
    )


def measure_effect(
    model: nn.Module,
    segmenter: Segmenter,
    z: Tensor,
    concept: str,
    edit: Edit | ContextFactory,
    *,
    before: Observed | None = None,
    with_features: bool = True,
    batch_size: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Effect:
    """What `edit` did to the images of `z`, image by image.

    Images that it left as they were, to the bit, are not segmented again: where a gate stays shut
    there is nothing to see.

    Args:
        model: the generator, in eval mode; or the tail that `split_at` gives, with `z` to match.
        segmenter: what labels its images.
        z: latents that were not used for choosing the edit.
        concept: the class that was to be removed.
        edit: an `Intervention`, or a function without arguments that gives a context manager in
            which the model is edited.
        before: what `observe` saw of the same latents, if it is known already.
        with_features: whether the edited images' features are wanted, for a Fréchet distance.
        batch_size: images made at once, as `generate` takes it.
        progress: called with the number of images after each batch.

    Raises:
        DissectError: a concept that the segmenter does not know, or no latents.

    >>> import dissect
    >>> generator = dissect.Generator(width=4, image_size=16).eval()
    >>> segmenter = dissect.Segmenter(("dark", "bright"), lambda x: (x.mean(1) > 0).long())
    >>> edit = dissect.Intervention(dissect.Units("layer8x8", (0, 2), 4))
    >>> z = dissect.latents_for(generator, 8, seed=1)
    >>> effect = dissect.measure_effect(generator, segmenter, z, "bright", edit)
    >>> len(effect), effect.classes
    (8, ('dark', 'bright'))
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
    with edit() if callable(edit) else edit.applied(model):
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
    names = set(one.arrays())
    for part in parts:
        if (part.concept, part.classes) != (one.concept, one.classes) or set(
            part.arrays()
        ) != names:
            raise DissectError("these effects are not of the same concept and segmenter")
    rows = {name: np.concatenate([part.arrays()[name] for part in parts]) for name in names}
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
            features[changed.numpy()] = image_features(segmenter, drawn[rows])
    # Of each image, how many pixels went from each class to each other.
    image = torch.arange(len(old)).reshape(-1, 1, 1)
    pairs = (image * classes + old) * classes + new
    table = torch.bincount(pairs.flatten(), minlength=len(old) * classes**2)
    table = table.reshape(len(old), classes, classes)
    both = table.diagonal(dim1=1, dim2=2)
    region = grown(old == number)
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


def _mean_in(values: Tensor, where: Tensor) -> NDArray[np.float64]:
    """The mean of (n, H, W) over the pixels `where`, (n,); NaN where there are none."""
    mean: NDArray[np.float64] = (
        ((values * where).sum((1, 2)).double() / where.sum((1, 2))).cpu().numpy()
    )
    return mean


def grown(mask: Tensor) -> Tensor:
    """(N, H, W) bool, the concept's region: the mask (N, H, W) and `MARGIN` around it."""
    margin = max(1, round(MARGIN * min(mask.shape[1:])))
    return max_pool2d(mask.float().unsqueeze(1), 2 * margin + 1, 1, margin).squeeze(1) > 0
