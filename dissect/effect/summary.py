"""The figures of an effect with their intervals: of one edit, or of many controls together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.stats import frechet_distance
from dissect.effect.measure import PRESENT, Effect

__all__ = ["Distance", "Estimate", "Summary", "distance", "summarize"]

_Floats = NDArray[np.float64]
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: _Floats) -> "Estimate":
        """From what was found, first, and what resamples gave."""
        low, high = np.percentile(values[1:], _INTERVAL)
        return cls(float(values[0]), float(low), float(high))

    @property
    def interval(self) -> list[float]:
        """Both ends."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Summary:
    """What an edit did, in figures; of several edits, the mean of each figure over them.

    Attributes:
        concept: what was to be removed.
        n: images.
        sets: edits; above 1, intervals are over images and edits alike.
        removed: share of the concept's pixels that are gone; below 0 where there are more.
        shown_before, shown_after: share of the images that show the concept.
        kept: by class other than the concept, its IoU before and after.
        kept_mean: the mean of those.
        outside_change, inside_change: mean absolute change outside the concept's region and
            inside it, on the [-1, 1] scale.
        replaced_by: by class, the share of the concept's pixels that are of it now; of the concept
            itself what is left.
    """

    concept: str
    n: int
    sets: int
    removed: Estimate
    shown_before: Estimate
    shown_after: Estimate
    kept: Mapping[str, Estimate]
    kept_mean: Estimate
    outside_change: Estimate
    inside_change: Estimate
    replaced_by: Mapping[str, Estimate]

    def values(self) -> dict[str, Any]:
        """Ready for JSON: every figure by its name, its interval by the same name and `_ci`."""
        result: dict[str, Any] = {"n_samples": self.n}
        for name in (
            *("removed", "shown_before", "shown_after", "kept", "kept_mean"),
            *("outside_change", "inside_change", "replaced_by"),
        ):
            found = getattr(self, name)
            if isinstance(found, Estimate):
                result[name], result[f"{name}_ci"] = found.value, found.interval
            else:
                result[name] = {key: one.value for key, one in found.items()}
                result[f"{name}_ci"] = {key: one.interval for key, one in found.items()}
        return result


def summarize(effects: Sequence[Effect], *, resamples: int = 1_000, seed: int = 0) -> Summary:
    """The figures of an effect, or of several on the same images, with bootstrap intervals.

    Args:
        effects: one edit, or the controls of one. Of several, sets and images are resampled
            alike, so that an interval holds what another draw of either would give.
        resamples: for the intervals, at least 2.
        seed: of the resamples.

    Raises:
        DissectError: no effects, or effects on other images or of other concepts.
    """
    _check(effects)
    one, n, sets = effects[0], len(effects[0]), len(effects)
    random = np.random.default_rng(seed)
    # Row 0 is what was found: every image and every set once.
    images = _resampled(random, n, resamples)
    chosen = _resampled(random, sets, resamples) / sets

    def total(values: Sequence[NDArray[Any]]) -> _Floats:
        """Sums over images, (1 + resamples, sets) and perhaps a further axis of classes."""
        summed: _Floats = np.tensordot(images, np.stack(values).astype(np.float64), (1, 1))
        return summed

    def mean(figure: _Floats) -> _Floats:
        averaged: _Floats = np.einsum("rs,rs...->r...", chosen, figure)
        return averaged

    before = total([effect.before for effect in effects])
    after = total([effect.after for effect in effects])
    both, either = (total([getattr(e, name) for e in effects]) for name in ("both", "either"))
    replaced = total([effect.replaced for effect in effects])
    kept = mean(_share(both, either, empty=1.0))
    replaced_by = mean(_share(replaced, replaced.sum(2, keepdims=True), empty=0.0))
    others = [k for k, name in enumerate(one.classes) if name != one.concept]

    def change(where: str) -> Estimate:
        pixels = [getattr(effect, f"{where}_pixels") for effect in effects]
        sums = [
            np.nan_to_num(getattr(effect, where)) * count
            for effect, count in zip(effects, pixels, strict=True)
        ]
        return Estimate.of(mean(_share(total(sums), total(pixels), empty=0.0)))

    return Summary(
        concept=one.concept,
        n=n,
        sets=sets,
        removed=Estimate.of(mean(_share(before - after, before, empty=0.0))),
        shown_before=Estimate.of(mean(total([e.before >= PRESENT for e in effects]) / n)),
        shown_after=Estimate.of(mean(total([e.after >= PRESENT for e in effects]) / n)),
        kept={one.classes[k]: Estimate.of(kept[:, k]) for k in others},
        kept_mean=Estimate.of(kept[:, others].mean(1) if others else np.ones(len(kept))),
        outside_change=change("outside"),
        inside_change=change("inside"),
        replaced_by={name: Estimate.of(replaced_by[:, k]) for k, name in enumerate(one.classes)},
    )


@dataclass(frozen=True)
class Distance:
    """Fréchet distances to real images before and after an edit, and by how much it grew."""

    before: Estimate
    after: Estimate
    change: Estimate

    def values(self) -> dict[str, Any]:
        """Ready for JSON."""
        result: dict[str, Any] = {}
        for name in ("before", "after", "change"):
            found: Estimate = getattr(self, name)
            result[name], result[f"{name}_ci"] = found.value, found.interval
        return result


def distance(
    real: _Floats, before: _Floats, after: _Floats, *, resamples: int = 100, seed: int = 0
) -> Distance:
    """How far the samples are from real images, before and after an edit (`frechet_distance`).

    The samples are resampled in pairs. Resamples repeat images, which makes any of them look
    farther off; the intervals are moved back by what that comes to on average.

    Args:
        real: (M, F), features of real images.
        before, after: (N, F), of the same latents.
        resamples: for the intervals, at least 2.
        seed: of the resamples.
    """
    random = np.random.default_rng(seed)
    rows = [np.arange(len(before)), *random.integers(len(before), size=(resamples, len(before)))]
    pairs = np.array(
        [(frechet_distance(real, before[r]), frechet_distance(real, after[r])) for r in rows]
    )
    figures = np.column_stack([pairs, pairs[:, 1] - pairs[:, 0]])
    figures[1:] += figures[0] - figures[1:].mean(0)
    first, second, third = (Estimate.of(figures[:, column]) for column in range(3))
    return Distance(first, second, third)


def _check(effects: Sequence[Effect]) -> None:
    if not effects or not len(effects[0]):
        raise DissectError("there is no effect to summarize")
    one = effects[0]
    for other in effects[1:]:
        if (other.concept, other.classes) != (one.concept, one.classes) or not np.array_equal(
            other.before, one.before
        ):
            raise DissectError("effects on the same images and of one concept go together")


def _resampled(random: np.random.Generator, count: int, resamples: int) -> _Floats:
    """How often each of `count` is drawn, (1 + resamples, count); in row 0 every one once."""
    drawn = random.multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.vstack([np.ones(count), drawn])


def _share(part: _Floats, whole: _Floats, *, empty: float) -> _Floats:
    """The quotient, and `empty` where there is no whole."""
    part, whole = np.broadcast_arrays(part, whole)
    share = np.full(part.shape, empty)
    np.divide(part, whole, out=share, where=whole > 0)
    return share
