"""A study of edits in figures: each edit, its controls, its curves and distances, for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.result import Result, to_plain
from dissect._utils.stats import frechet_distance
from dissect.effect.measure import Effect
from dissect.effect.study import EffectStudy
from dissect.effect.summary import Distance, Summary, distance, summarize

__all__ = ["ControlDistance", "EffectReport", "report"]


@dataclass(frozen=True, repr=False)
class ControlDistance(Result):
    """Fréchet distances of the controls, on fewer images than the edit's own.

    Such distances fall as images are added, so that only those on as many compare.

    Attributes:
        before, edit: of the images before and after the edit, on as many as the controls.
        sets: of each random set.
    """

    before: float
    edit: float
    sets: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over the random sets."""
        return float(np.mean(self.sets))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        sets = list(self.sets)
        return {"before": self.before, "edit": self.edit, "mean": self.mean, "by_set": sets}


@dataclass(frozen=True, repr=False)
class EffectReport(Result):
    """The figures of a study, by the name of the edit.

    Attributes:
        study: what was measured.
        edits: of each edit.
        random: of the controls of those that have any, the mean over the sets.
        distances, control_distances: from real images; empty where there are no features.
    """

    study: EffectStudy
    edits: Mapping[str, Summary]
    random: Mapping[str, Summary]
    distances: Mapping[str, Distance]
    control_distances: Mapping[str, ControlDistance]

    def as_much(self, name: str) -> int:
        """How many random sets removed at least as much as the edit, on the same images."""
        edit = self.study.edits[name].first(self.study.n_control_samples).removal()
        return sum(one.removal() >= edit for one in self.study.random[name])

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: `edits`, `random`, `by_units` and `by_strength`, each by edit."""
        study = self.study
        values = {
            "edits": {
                name: {**one.to_dict(), "frechet": _values(self.distances.get(name))}
                for name, one in self.edits.items()
            },
            "random": {name: self._controls(name) for name in self.random},
            "by_units": {name: _curve(curve) for name, curve in study.by_units.items()},
            "by_strength": {name: _curve(curve) for name, curve in study.by_strength.items()},
        }
        return {name: to_plain(value) for name, value in values.items()}

    def summary(self) -> dict[str, Any]:
        """The edits that were measured."""
        return self.study.summary()

    def rows(self) -> list[dict[str, Any]]:
        """The main figures of each edit, and of its controls on average."""
        rows = [{"edit": name, **one.summary()} for name, one in self.edits.items()]
        return rows + [{"edit": f"random, {k}", **one.summary()} for k, one in self.random.items()]

    def _controls(self, name: str) -> dict[str, Any]:
        sets = self.study.random[name]
        return {
            "n_sets": len(sets),
            **self.random[name].to_dict(),
            "as_much": self.as_much(name),
            "by_set": {
                "removed": [one.removal() for one in sets],
                "shown_after": [one.prevalence_before_after()[1] for one in sets],
                "kept_mean": [one.mean_iou_kept() for one in sets],
                "outside_change": [one.change() for one in sets],
            },
            "frechet": _values(self.control_distances.get(name)),
        }


def report(
    study: EffectStudy, real: NDArray[np.float64] | None = None, *, seed: int = 0
) -> EffectReport:
    """The figures of `study` with their 95% bootstrap intervals.

    Args:
        study: what `study_effect` measured.
        real: (M, F), features of real images (see `frechet_distance`), or None.
        seed: of the resamples.
    """
    distances: dict[str, Distance] = {}
    control_distances: dict[str, ControlDistance] = {}
    before, n_control = study.features, study.n_control_samples
    for name, edit in study.edits.items():
        if real is None or before is None or edit.features is None:
            continue
        distances[name] = distance(real, before, edit.features, seed=seed)
        if name not in study.random:
            continue
        control_distances[name] = ControlDistance(
            before=frechet_distance(real, before[:n_control]),
            edit=frechet_distance(real, edit.features[:n_control]),
            sets=tuple(
                frechet_distance(real, one.features)
                for one in study.random[name]
                if one.features is not None
            ),
        )
    return EffectReport(
        study=study,
        edits={name: summarize([one], seed=seed) for name, one in study.edits.items()},
        random={name: summarize(sets, seed=seed) for name, sets in study.random.items()},
        distances=distances,
        control_distances=control_distances,
    )


def _values(found: Distance | ControlDistance | None) -> dict[str, Any] | None:
    return None if found is None else found.to_dict()


def _curve(curve: Mapping[int, Effect] | Mapping[float, Effect]) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "dose": dose,
            "n_samples": len(found),
            "removed": found.removal(),
            "removed_ci": found.estimate("removal").interval,
            "shown_after": found.prevalence_before_after()[1],
            "kept_mean": found.mean_iou_kept(),
            "outside_change": found.change(),
        }
        for dose, found in curve.items()
    ]
