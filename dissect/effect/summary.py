"""The figures of an effect with their intervals: of one edit, or of many controls together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.result import Result, to_plain
from dissect._utils.stats import Estimate, frechet_distance, ratio, resampling_counts
from dissect.effect.measure import Effect

__all__ = ["Distance", "Summary", "distance", "summarize"]

_Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Summary(Result):
    """What an edit did, in figures; of several edits, the mean of each figure over them.

    Attributes:
        concept: what was to be removed.
        n: images.
        sets: edits; above 1, intervals are over images and edits alike.
        removed: fraction of the concept's pixels that are gone; below 0 where there are more.
        shown_before, shown_after: fraction of the images that show the concept.
        kept: by class other than the concept, its IoU before and after.
        kept_mean: the mean of those.
        outside_change, inside_change: mean absolute change outside the concept's region and
            inside it, on the [-1, 1] scale.
        replaced_by: by class, the fraction of the concept's pixels that are of it now; of the
            concept itself what is left.
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

    def summary(self) -> dict[str, Any]:
        """The concept, how much was measured, and the main figures."""
        figures = ("removed", "shown_before", "shown_after", "kept_mean", "outside_change")
        return {
            "concept": self.concept,
            "n": self.n,
            "sets": self.sets,
            **{name: getattr(self, name).value for name in figures},
        }

    def to_dict(self) -> dict[str, Any]:
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
        return {name: to_plain(value) for name, value in result.items()}


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
    images = resampling_counts(n, resamples, random)
    chosen = resampling_counts(sets, resamples, random) / sets
    figures = [effect.figures(images) for effect in effects]

    def mean(name: str) -> _Floats:
        """The figure's mean over the sets on which it is defined, (1 + resamples, ...)."""
        values = np.stack([getattr(one, name) for one in figures], 1)
        weights = chosen.reshape(*chosen.shape, *[1] * (values.ndim - 2))
        return ratio((weights * np.nan_to_num(values)).sum(1), (weights * ~np.isnan(values)).sum(1))

    ious, replacement = mean("ious"), mean("replacement")
    return Summary(
        concept=one.concept,
        n=n,
        sets=sets,
        removed=Estimate.from_resamples(mean("removal")),
        shown_before=Estimate.from_resamples(mean("shown_before")),
        shown_after=Estimate.from_resamples(mean("shown_after")),
        kept={
            name: Estimate.from_resamples(ious[:, k])
            for k, name in enumerate(one.classes)
            if name != one.concept
        },
        kept_mean=Estimate.from_resamples(mean("mean_iou_kept")),
        outside_change=Estimate.from_resamples(mean("outside_change")),
        inside_change=Estimate.from_resamples(mean("inside_change")),
        replaced_by={
            name: Estimate.from_resamples(replacement[:, k]) for k, name in enumerate(one.classes)
        },
    )


@dataclass(frozen=True, repr=False)
class Distance(Result):
    """Fréchet distances to real images before and after an edit, and by how much it grew."""

    before: Estimate
    after: Estimate
    change: Estimate

    def to_dict(self) -> dict[str, Any]:
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
    counts = resampling_counts(len(before), resamples, seed).astype(int)
    rows = [np.repeat(np.arange(len(before)), row) for row in counts]
    pairs = np.array(
        [(frechet_distance(real, before[r]), frechet_distance(real, after[r])) for r in rows]
    )
    figures = np.column_stack([pairs, pairs[:, 1] - pairs[:, 0]])
    figures[1:] += figures[0] - figures[1:].mean(0)
    first, second, third = (Estimate.from_resamples(figures[:, column]) for column in range(3))
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
