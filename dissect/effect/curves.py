"""Rules compared: what each removes and what that costs elsewhere, as it takes more units.

Every rule ranks all units on latents of its own. Its first units are then removed, more and more
of them, everywhere and at the cells of a gate, and all edits are measured on the same fresh
latents, so that they differ by what they do and not by the images that they met.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect._utils.result import Result
from dissect._utils.stats import Estimate, resampling_counts
from dissect.effect.measure import Effect
from dissect.effect.study import Trial, measure_each
from dissect.effect.summary import summarize
from dissect.segmentation import Segmenter
from dissect.surgery.intervention import Intervention

__all__ = [
    "LEVELS",
    "Advantage",
    "RuleCurve",
    "advantages",
    "at_sizes",
    "curve_sizes",
    "measure_rules",
]

_Floats = NDArray[np.float64]
_Key = tuple[str, str, float]

# Fractions removed at which the rules' costs are compared.
LEVELS = (0.25, 0.5, 0.75, 0.9, 0.95, 0.98)


@dataclass(frozen=True, repr=False)
class RuleCurve(Result):
    """One rule under one gate, as the number of units grows.

    Attributes:
        rule: its name, such as `iou`.
        where: `everywhere` or `probe`.
        sizes: numbers of units, growing.
        effects: what that many of its first units did, removed.
        own: the size that the rule would choose by itself, where it has one.
    """

    rule: str
    where: str
    sizes: tuple[int, ...]
    effects: tuple[Effect, ...]
    own: int | None = None

    def first_removing(self, removed: float = 0.98) -> int | None:
        """The position of the first size that removes so much; None where none does."""
        for position, effect in enumerate(self.effects):
            if effect.removal() >= removed:
                return position
        return None

    def rows(self) -> list[dict[str, Any]]:
        """The figures of every size, with their intervals, as JSON has them."""
        return [
            {"n_units": size, **summarize([effect], resamples=400).to_dict()}
            for size, effect in zip(self.sizes, self.effects, strict=True)
        ]


def curve_sizes(total: int, own: Sequence[int] = ()) -> list[int]:
    """Numbers of units at which a rule is read: each about 1.4 times the last, and `own`."""
    steps = {round(2 ** (power / 2)) for power in range(4, 2 * total.bit_length())}
    return sorted({size for size in steps if size <= total} | {k for k in own if k <= total})


def measure_rules(
    model: nn.Module,
    edits: Mapping[tuple[str, str], Intervention | Sequence[Intervention]],
    own: Mapping[tuple[str, str], int],
    z: Tensor,
    segmenter: Segmenter,
    concept: str,
    *,
    progress: ProgressCallback = no_progress,
) -> list[RuleCurve]:
    """A curve for each edit, named by (rule, where).

    Args:
        model: the generator, in eval mode.
        edits: of all the units that a rule may take, best first; or one edit for each number of
            units.
        own: how many of them the rule takes by itself, where it says.
        z: latents on which no rule chose.
        segmenter: labels the pixels of the images.
        concept: what was to be removed.
        progress: called with the number of images after each batch; `len(z)` for each size of each
            edit, and once more.

    Raises:
        DissectError: what `measure_each` raises.
    """
    sized = {name: at_sizes(edit, own.get(name)) for name, edit in edits.items()}
    trials: dict[_Key, Trial] = {
        (*name, size): Trial(edit, len(z), with_features=False)
        for name, by_size in sized.items()
        for size, edit in by_size.items()
    }
    effects, _ = measure_each(model, trials, z, segmenter, concept, progress=progress)
    return [
        RuleCurve(
            *name, tuple(by_size), tuple(effects[(*name, size)] for size in by_size), own.get(name)
        )
        for name, by_size in sized.items()
    ]


def at_sizes(
    edit: Intervention | Sequence[Intervention], own: int | None
) -> dict[int, Intervention]:
    """The edits at which a rule is read, by their number of units, few first.

    Args:
        edit: of all its units, best first; or one for each number of units.
        own: how many of them the rule takes by itself, where it says.
    """
    if not isinstance(edit, Intervention):
        return {len(each.units): each for each in sorted(edit, key=lambda each: len(each.units))}
    total = len(edit.units)
    return {k: edit.strongest(k) for k in curve_sizes(total, [total if own is None else own])}


@dataclass(frozen=True, repr=False)
class Advantage(Result):
    """How much less another rule changes elsewhere than this one, at equal removal.

    Attributes:
        rule, where: the rule that is compared.
        level: the fraction removed.
        cost: mean change outside of this rule where it removes that; None where it never does.
        less: this rule's cost minus the other's, with its interval over images; None likewise.
        kept: mean IoU of the other classes there.
        kept_less: the other's kept minus this rule's, with its interval.
    """

    rule: str
    where: str
    level: float
    cost: float | None
    less: Estimate | None
    kept: float | None
    kept_less: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        result: dict[str, Any] = {
            "rule": self.rule,
            "where": self.where,
            "removed": self.level,
            "outside_change": self.cost,
            "kept_mean": self.kept,
        }
        for name, estimate in (("spared", self.less), ("kept_more", self.kept_less)):
            result[name] = None if estimate is None else estimate.value
            result[f"{name}_ci"] = None if estimate is None else estimate.interval
        return result


def advantages(
    best: RuleCurve,
    others: Sequence[RuleCurve],
    *,
    levels: Sequence[float] = LEVELS,
    resamples: int = 400,
    seed: int = 0,
) -> list[Advantage]:
    """What `best` spares against each other rule, at each fraction removed.

    Between two sizes of a curve the cost is interpolated. Images are resampled together for both
    rules, so that the interval is of their difference on the same images.

    Raises:
        DissectError: curves on different images.
    """
    images = len(best.effects[0])
    if any(len(curve.effects[0]) != images for curve in others):
        raise DissectError("rules are compared on the same images")
    weights = resampling_counts(images, resamples, seed)
    best_figures = _read(best, weights, levels)
    comparisons = []
    for curve in others:
        other_figures = _read(curve, weights, levels)
        for position, level in enumerate(levels):
            cost, kept = (figure[:, position] for figure in other_figures)
            my_cost, my_kept = (figure[:, position] for figure in best_figures)
            known = not np.isnan(cost[0]) and not np.isnan(my_cost[0])
            comparisons.append(
                Advantage(
                    curve.rule,
                    curve.where,
                    level,
                    None if np.isnan(cost[0]) else float(cost[0]),
                    Estimate.from_resamples(cost - my_cost) if known else None,
                    None if np.isnan(kept[0]) else float(kept[0]),
                    Estimate.from_resamples(my_kept - kept) if known else None,
                )
            )
    return comparisons


def _read(curve: RuleCurve, weights: _Floats, levels: Sequence[float]) -> tuple[_Floats, _Floats]:
    """Cost and kept, (1 + resamples, levels) each, at the first units that remove the level."""
    figures = [effect.figures(weights) for effect in curve.effects]
    removed = np.stack([each.removal for each in figures], 1)
    cost = np.stack([each.outside_change for each in figures], 1)
    kept = np.stack([each.mean_iou_kept for each in figures], 1)
    # Nothing removed costs nothing: every curve begins there.
    zero = np.zeros((len(weights), 1))
    removed, cost = np.hstack([zero, removed]), np.hstack([zero, cost])
    kept = np.hstack([zero + 1, kept])
    return _crossed(removed, cost, levels), _crossed(removed, kept, levels)


def _crossed(removed: _Floats, figure: _Floats, levels: Sequence[float]) -> _Floats:
    """The figure where `removed` first reaches each level, (rows, levels); NaN where it does not.

    Linear between the size before and the size at which it does.
    """
    rows = np.arange(len(removed))
    crossed = np.full((len(removed), len(levels)), np.nan)
    for position, level in enumerate(levels):
        reached = removed >= level
        at = reached.argmax(1)
        ok = reached.any(1) & (at > 0)
        before = np.maximum(at - 1, 0)
        low, high = removed[rows, before], removed[rows, at]
        fraction = (level - low) / np.where(high > low, high - low, 1)
        value = figure[rows, before] + fraction * (figure[rows, at] - figure[rows, before])
        crossed[ok, position] = value[ok]
    return crossed
