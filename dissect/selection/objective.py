"""What an edit must reach, and which of several is the best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan

from dissect._utils.display import ShortRepr
from dissect._utils.result import Result
from dissect.effect.measure import Effect
from dissect.surgery.intervention import Intervention

__all__ = ["Metrics", "Objective", "Trial"]


@dataclass(frozen=True, repr=False)
class Metrics(Result):
    """The effect of an edit, in the figures by which edits are compared.

    Attributes:
        removed: fraction of the concept's pixels that are gone.
        prevalence: fraction of the images that still show the concept.
        kept_mean: mean over the other classes of their IoU before and after.
        kept: that IoU of the worst of the classes that the objective keeps; 1 where it keeps none.
        outside_change: mean absolute change outside the concept's region, on the [-1, 1] scale.
        n: number of samples.
    """

    removed: float
    prevalence: float
    kept_mean: float
    kept: float
    outside_change: float
    n: int

    @classmethod
    def from_effect(cls, effect: Effect, keep: Sequence[str] = ()) -> "Metrics":
        """The metrics of a measured effect; `keep` are the classes that the objective keeps."""
        # A class that is in no image, before or after, has lost nothing.
        kept = [iou for name in keep if not isnan(iou := effect.iou_kept(name))]
        return cls(
            effect.removal(),
            effect.prevalence_before_after()[1],
            effect.mean_iou_kept(),
            min(kept, default=1.0),
            effect.change(),
            len(effect),
        )


@dataclass(frozen=True, eq=False)
class Trial:
    """An edit that was tried.

    Attributes:
        gate_name: the name of its gate.
        edit: the edit.
        metrics: its effect on the samples that it was tried on.
    """

    gate_name: str
    edit: Intervention
    metrics: Metrics


@dataclass(frozen=True, repr=False)
class Objective(ShortRepr):
    """What an edit must reach, and the order of those that reach it.

    An edit meets the objective if at least `removed` of the concept's pixels are gone, at most
    `prevalence` of the images show the concept, and every class of `keep` has an IoU of at least
    `kept`. Of the edits that meet it, the best changes least outside the concept's region; among
    all whose change is within `slack` of the least, it has the fewest units. Where none meets it,
    the best falls short by the least, in fractions of pixels and images together.

    Attributes:
        removed: fraction of the concept's pixels.
        prevalence: fraction of all images.
        keep: classes of the segmenter.
        kept: IoU before and after, at least, of each of them.
        max_units: the largest fraction of the layer's units that an edit may take.
        slack: a factor above 1.
    """

    removed: float = 0.98
    prevalence: float = 0.01
    keep: tuple[str, ...] = ()
    kept: float = 0.0
    max_units: float = 1.0
    slack: float = 1.1

    def stricter(self) -> "Objective":
        """The objective on the samples of the search, which flatter an edit: twice as much.

        IoUs, which rest on many more pixels and so vary less, are raised by little.
        """
        return replace(
            self,
            removed=1 - 0.5 * (1 - self.removed),
            prevalence=0.5 * self.prevalence,
            kept=1 - 0.96 * (1 - self.kept),
        )

    def shortfall(self, metrics: Metrics) -> float:
        """By how much the objective is missed; 0 where it is met."""
        return (
            max(0.0, self.removed - metrics.removed)
            + max(0.0, metrics.prevalence - self.prevalence)
            + max(0.0, self.kept - metrics.kept)
        )

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials, the best first."""
        least = min(
            (one.metrics.outside_change for one in trials if not self.shortfall(one.metrics)),
            default=0.0,
        )

        def rank(one: Trial) -> tuple[float, float, float]:
            short, change = self.shortfall(one.metrics), one.metrics.outside_change
            near = short == 0 and change <= least * self.slack
            return (short, 0.0, len(one.edit.units)) if near else (short, 1.0, change)

        return sorted(trials, key=rank)
