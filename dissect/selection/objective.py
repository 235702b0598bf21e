"""What an edit must do to be enough, and which of several is the best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan

from dissect.effect.measure import Effect
from dissect.surgery.intervention import Intervention

__all__ = ["Goal", "Outcome", "Trial"]


@dataclass(frozen=True)
class Outcome:
    """What an edit did, in the figures that choices are made by.

    Attributes:
        removed: share of the concept's pixels that are gone.
        shown: share of the images that show the concept still.
        kept_mean: mean over the other classes of their IoU before and after.
        kept: that IoU of the class of which least was kept, of those that the goal names; 1 where
            it names none.
        outside_change: mean absolute change outside the concept's region, on the [-1, 1] scale.
        n: on how many samples.
    """

    removed: float
    shown: float
    kept_mean: float
    kept: float
    outside_change: float
    n: int

    @classmethod
    def of(cls, effect: Effect, keep: Sequence[str] = ()) -> "Outcome":
        """The figures of a measured effect; `keep` are the classes that the goal names."""
        # A class that is in no image, before or after, has lost nothing.
        kept = [effect.iou_kept(name) for name in keep]
        return cls(
            effect.removal(),
            effect.prevalence_before_after()[1],
            effect.mean_iou_kept(),
            min((iou for iou in kept if not isnan(iou)), default=1.0),
            effect.change(),
            len(effect),
        )


@dataclass(frozen=True, eq=False)
class Trial:
    """An edit that was tried.

    Attributes:
        where: the name of its gate.
        edit: the edit.
        outcome: what it did to the samples that it was tried on.
    """

    where: str
    edit: Intervention
    outcome: Outcome


@dataclass(frozen=True)
class Goal:
    """What is enough, and how the best of the edits that are enough is told.

    An edit is enough if at least `removed` of the concept's pixels are gone, at most `shown` of
    the images show the concept, and every class of `keep` has kept its outline. Of those that are,
    the best changes least outside the concept's region; among all whose change is within `slack`
    of the least, it has the fewest units. Where none is enough, the best falls short by the least,
    in shares of pixels and images together.

    Attributes:
        removed: share of the concept's pixels.
        shown: share of all images.
        keep: classes of the segmenter.
        kept: IoU before and after, which each of them must have at least.
        most: share of the layer's units that an edit may take.
        slack: a factor above 1.
    """

    removed: float = 0.98
    shown: float = 0.01
    keep: tuple[str, ...] = ()
    kept: float = 0.0
    most: float = 1.0
    slack: float = 1.1

    def stricter(self) -> "Goal":
        """What is asked where an edit is chosen, on latents that flatter it: twice as much.

        Of outlines, which cover many more pixels and so vary less, hardly more.
        """
        return replace(
            self,
            removed=1 - 0.5 * (1 - self.removed),
            shown=0.5 * self.shown,
            kept=1 - 0.96 * (1 - self.kept),
        )

    def shortfall(self, found: Outcome) -> float:
        """By how much an outcome is not enough; 0 where it is."""
        return (
            max(0.0, self.removed - found.removed)
            + max(0.0, found.shown - self.shown)
            + max(0.0, self.kept - found.kept)
        )

    def sorted(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials, the best first."""
        least = min(
            (one.outcome.outside_change for one in trials if not self.shortfall(one.outcome)),
            default=0.0,
        )

        def place(one: Trial) -> tuple[float, float, float]:
            short, change = self.shortfall(one.outcome), one.outcome.outside_change
            near = short == 0 and change <= least * self.slack
            return (short, 0.0, len(one.edit.units)) if near else (short, 1.0, change)

        return sorted(trials, key=place)
