"""`auto`: the smallest set of units, strength and gate that removes a concept and little else.

    choice = choose_edit(G, "layer8x8", segmenter, "window", {"probe": probe})
    with choice.intervention.on(G):
        after = G(z)

Candidates are every combination of a gate, a strength, what stands in the units' place (zero, or
what they are elsewhere), and the first units of a ranking learned for just that edit. Each is
tried on one set of latents; the best are tested on another; effects are reported on a third.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from dissect.effect import Effect, measure
from dissect.errors import DissectError
from dissect.intervention import Intervention
from dissect.models import fingerprint
from dissect.probe import Probe
from dissect.segment import Segmenter
from dissect.selection.doses import Lesson, learned_doses
from dissect.selection.samples import CHOOSE, VALIDATE, Samples, quickly, sampled
from dissect.units import Rule, Units, rank_units

__all__ = ["Choice", "Goal", "Outcome", "Search", "choose_edit", "search_steps"]

Watch = Callable[[int, str], None]

# What rankings for `auto` are learned by. A change of 0.05 outside costs as much as all of the
# concept that is left; that a unit counts in or out is decided in the second half.
_LESSON = Lesson(
    elsewhere=20.0, square=0.0, few=0.5, decided=0.5, log=True, beyond=True, steps=200, batch=32
)


@dataclass(frozen=True)
class Goal:
    """What an edit must do to be enough, and how the best of those is told.

    An edit is enough if at least `removed` of the concept's pixels are gone and at most `shown` of
    the images show the concept. Of those that are, the best changes least outside the concept's
    region; among all whose change is within `slack` of the least, it has the fewest units. Where
    none is enough, the best falls short by the least, in shares of pixels and images together.

    Attributes:
        removed: share of the concept's pixels.
        shown: share of all images.
        slack: a factor above 1.
    """

    removed: float = 0.98
    shown: float = 0.01
    slack: float = 1.1

    def shortfall(self, found: "Outcome") -> float:
        """By how much an outcome is not enough; 0 where it is."""
        return max(0.0, self.removed - found.removed) + max(0.0, found.shown - self.shown)

    def sorted(self, trials: Sequence["Trial"]) -> list["Trial"]:
        """The trials, the best first."""
        enough = [one for one in trials if self.shortfall(one.outcome) == 0]
        rest = sorted(
            (one for one in trials if self.shortfall(one.outcome) > 0),
            key=lambda one: (self.shortfall(one.outcome), one.outcome.outside_change),
        )
        least = min((one.outcome.outside_change for one in enough), default=0.0)
        # Bands of change, each `slack` wide: within one, the number of units decides.
        near = [one for one in enough if one.outcome.outside_change <= least * self.slack]
        far = [one for one in enough if one.outcome.outside_change > least * self.slack]
        near.sort(key=lambda one: (len(one.edit.units), one.outcome.outside_change))
        far.sort(key=lambda one: one.outcome.outside_change)
        return [*near, *far, *rest]


@dataclass(frozen=True)
class Outcome:
    """What an edit did, in the figures that choices are made by.

    Attributes:
        removed: share of the concept's pixels that are gone.
        shown: share of the images that show the concept still.
        kept_mean: mean over the other classes of their IoU before and after.
        outside_change: mean absolute change outside the concept's region, on the [-1, 1] scale.
        n: on how many samples.
    """

    removed: float
    shown: float
    kept_mean: float
    outside_change: float
    n: int

    @classmethod
    def of(cls, effect: Effect) -> "Outcome":
        """The figures of a measured effect."""
        return cls(
            effect.removed(), effect.shown()[1], effect.kept_mean(), effect.change(), len(effect)
        )


@dataclass(frozen=True, eq=False)
class Trial:
    """An edit, the name of its gate, what it did, and the ranking that its units are first in."""

    where: str
    edit: Intervention
    outcome: Outcome
    ranking: Units


@dataclass(frozen=True, eq=False)
class Choice:
    """The edit that `auto` chose.

    Attributes:
        where: the name of its gate; `everywhere` for none.
        intervention: units, strength, gate, threshold and replacement.
        ranking: every unit of the layer, in the order in which such an edit takes them.
        tried: what it did on the latents it was chosen on; flattering.
        tested: what it did on others.
        enough: whether it reached the goal there.
    """

    where: str
    intervention: Intervention
    ranking: Units
    tried: Outcome
    tested: Outcome
    enough: bool


@dataclass(frozen=True)
class Search:
    """How far `auto` looks.

    Attributes:
        n: samples to learn and to choose on; as many others are there to test on.
        edits: (strength, whether units become what they are elsewhere, rather than zero).
        sizes: numbers of units, as multiples of how many have a dose above one half.
        thresholds: of a gate.
        finalists: how many candidates go on from sizes to thresholds, and how many are tested.
        seed: of batches.
    """

    n: int = 1_000
    edits: tuple[tuple[float, bool], ...] = (
        (1.0, False),
        (1.0, True),
        (1.5, False),
        (1.5, True),
        (2.0, False),
        (2.0, True),
    )
    sizes: tuple[float, ...] = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
    thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    finalists: int = 3
    seed: int = 0


def choose_edit(
    model: nn.Module,
    layer: str,
    segmenter: Segmenter,
    concept: str,
    gates: Mapping[str, Probe | None],
    *,
    goal: Goal | None = None,
    search: Search | None = None,
    watch: Watch = lambda _, __: None,
) -> Choice:
    """The edit of one layer that removes the concept and changes least elsewhere (see `Goal`).

    Args:
        model: the generator, in eval mode.
        layer: whose units.
        segmenter: the eyes, with probabilities.
        concept: one of its classes.
        gates: by name, the probes that the edit may keep to; None lets it act everywhere.
        goal: what is enough.
        search: how far to look.
        watch: called with steps done and what is being done; `search_steps` in all.

    Raises:
        DissectError: no gates, or what `sampled` and `learned_doses` raise.
    """
    goal, search = goal or Goal(), search or Search()
    if not gates:
        raise DissectError("auto needs at least one gate to choose from; None is everywhere")
    samples = sampled(model, layer, segmenter, concept, search.n, seed=CHOOSE)
    watch(1, "samples")
    elsewhere = samples.elsewhere()
    shares = {
        name: None if probe is None else probe.probability(samples.acts).cpu()
        for name, probe in gates.items()
    }
    trials: list[Trial] = []
    for strength, fill in search.edits:
        # Gates differ by little at the cells that count; one ranking does for all of them.
        for together in _alike(shares):
            first = shares[together[0]]
            doses = learned_doses(
                samples,
                _LESSON,
                open_cells=None if first is None else first > _middle(search.thresholds),
                strength=strength,
                replacement=elsewhere if fill else None,
                watch=lambda n: watch(n, "learning"),
            )
            for name in together:
                whole = Intervention(
                    _ranked(doses, samples, model),
                    gates[name],
                    _middle(search.thresholds),
                    strength,
                    elsewhere.cpu() if fill else "zero",
                )
                trials += _at_sizes(samples, name, whole, search, watch)
    trials += _at_thresholds(samples, goal.sorted(trials), search, watch)
    return _tested(model, samples, goal.sorted(trials)[: search.finalists], goal, search, watch)


def search_steps(gates: Mapping[str, Probe | None], search: Search | None = None) -> int:
    """How many steps `choose_edit` takes, for a progress bar."""
    search = search or Search()
    groups = len({probe is None for probe in gates.values()})
    per_edit = groups * _LESSON.steps + len(gates) * len(search.sizes)
    gated = any(probe is not None for probe in gates.values())
    thresholds = search.finalists * (len(search.thresholds) - 1) if gated else 0
    return 1 + len(search.edits) * per_edit + thresholds + search.finalists


def _alike(shares: Mapping[str, Tensor | None]) -> Iterator[list[str]]:
    """Names of the gates that share a ranking: all probes, and everywhere."""
    for everywhere in (False, True):
        names = [name for name, share in shares.items() if (share is None) == everywhere]
        if names:
            yield names


def _middle(thresholds: Sequence[float]) -> float:
    return sorted(thresholds)[len(thresholds) // 2]


def _ranked(doses: Tensor, samples: Samples, model: nn.Module) -> Units:
    return rank_units(
        doses.tolist(),
        layer=samples.layer,
        rule=Rule("auto"),
        concept=samples.concept,
        model=fingerprint(model),
    )


def _tried(
    samples: Samples, where: str, edit: Intervention, ranking: Units, *, exact: bool = False
) -> Trial:
    with quickly(samples.inputs.device, exact=exact):
        effect = measure(
            samples.rest,
            samples.segmenter,
            samples.inputs,
            samples.concept,
            partial(edit.on, samples.rest),
            before=samples.seen,
            with_features=False,
        )
    return Trial(where, edit, Outcome.of(effect), ranking)


def _at_sizes(
    samples: Samples, where: str, whole: Intervention, search: Search, watch: Watch
) -> Iterator[Trial]:
    """The first units of a ranking, as many as have a large dose, fewer, and more."""
    large = max(1, sum(dose > 0.5 for dose in whole.units.scores))
    sizes = [min(max(1, round(large * size)), len(whole.units)) for size in search.sizes]
    for size in dict.fromkeys(sizes):
        yield _tried(samples, where, whole.strongest(size), whole.units)
    watch(len(sizes), "choosing")


def _at_thresholds(
    samples: Samples, best: Sequence[Trial], search: Search, watch: Watch
) -> Iterator[Trial]:
    """The best gated trials, their gates opened wider and less wide."""
    gated = [one for one in best if one.edit.gate is not None][: search.finalists]
    for one in gated:
        for threshold in search.thresholds:
            if threshold != one.edit.threshold:
                yield _tried(
                    samples, one.where, replace(one.edit, threshold=threshold), one.ranking
                )
        watch(len(search.thresholds) - 1, "choosing")


def _tested(
    model: nn.Module,
    samples: Samples,
    finalists: Sequence[Trial],
    goal: Goal,
    search: Search,
    watch: Watch,
) -> Choice:
    """The first of the finalists that is enough on other latents; else the one that is closest."""
    others = sampled(
        model,
        samples.layer,
        samples.segmenter,
        samples.concept,
        search.n,
        seed=VALIDATE,
        exact=True,
    )
    tested = []
    for one in finalists:
        tested.append(_tried(others, one.where, one.edit, one.ranking, exact=True))
        watch(1, "testing")
        if goal.shortfall(tested[-1].outcome) == 0:
            break
    last = min(tested, key=lambda one: goal.shortfall(one.outcome))
    first = finalists[tested.index(last)]
    return Choice(
        last.where,
        last.edit,
        last.ranking,
        first.outcome,
        last.outcome,
        goal.shortfall(last.outcome) == 0,
    )
