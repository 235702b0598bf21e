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

from dissect.effect import measure
from dissect.errors import DissectError
from dissect.intervention import Intervention
from dissect.models import fingerprint
from dissect.probe import Probe
from dissect.segment import Segmenter
from dissect.selection.doses import Lesson, learned_doses
from dissect.selection.goal import Goal, Outcome, Trial
from dissect.selection.samples import CHOOSE, VALIDATE, Samples, quickly, sampled
from dissect.units import Rule, Units, rank_units

__all__ = ["Choice", "Goal", "Search", "choose_edit", "search_steps"]

Watch = Callable[[int, str], None]

# Sizes and strengths that are tried around the best one.
_STEPS = 8
_FACTORS = (0.8, 0.9, 1.1, 1.2)

# What rankings for `auto` are learned by. A change of 0.05 outside costs as much as all of the
# concept that is left; that a unit counts in or out is decided in the second half.
_LESSON = Lesson(
    elsewhere=20.0, square=0.0, few=0.5, decided=0.5, log=True, beyond=True, steps=200, batch=32
)


@dataclass(frozen=True, eq=False)
class Choice:
    """The edit that `auto` chose.

    Attributes:
        where: the name of its gate; `everywhere` for none.
        intervention: units, strength, gate, threshold and replacement.
        ranking: every unit of the layer, those of the edit first, and then those that it would
            take next.
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
        finalists: how many kinds of edit are looked at more closely, and how many are tested.
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
    thresholds: tuple[float, ...] = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
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
    wanted = goal.stricter()
    middle = sorted(search.thresholds)[len(search.thresholds) // 2]
    trials: list[Trial] = []
    for strength, fill in search.edits:
        # Gates differ by little at the cells that count; one ranking does for all of them.
        for together in _alike(shares):
            first = shares[together[0]]
            doses = learned_doses(
                samples,
                replace(_LESSON, seed=search.seed),
                open_cells=None if first is None else first > middle,
                strength=strength,
                replacement=elsewhere if fill else None,
                watch=lambda n: watch(n, "learning"),
            )
            ranking = _ranked(doses, samples, model)
            for name in together:
                whole = Intervention(
                    ranking, gates[name], middle, strength, elsewhere.cpu() if fill else "zero"
                )
                trials += _at_sizes(samples, name, whole, search, watch)
    kinds: list[object] = []
    for _ in range(search.finalists):
        # The best of a kind that was not looked at yet, and what lies between what was tried of it.
        new = [one for one in wanted.sorted(trials) if one.kind not in kinds]
        if new:
            kinds.append(new[0].kind)
            trials += _closer(samples, new[0], wanted, search)
        watch(1, "looking closer")
    return _tested(model, samples, wanted.sorted(trials)[: search.finalists], goal, search, watch)


def search_steps(gates: Mapping[str, Probe | None], search: Search | None = None) -> int:
    """How many steps `choose_edit` takes, for a progress bar."""
    search = search or Search()
    groups = len({probe is None for probe in gates.values()})
    per_edit = groups * _LESSON.steps + len(gates) * len(search.sizes)
    return 1 + len(search.edits) * per_edit + 2 * search.finalists


def _alike(shares: Mapping[str, Tensor | None]) -> Iterator[list[str]]:
    """Names of the gates that share a ranking: all probes, and everywhere."""
    for everywhere in (False, True):
        names = [name for name, share in shares.items() if (share is None) == everywhere]
        if names:
            yield names


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


def _closer(samples: Samples, first: Trial, goal: Goal, search: Search) -> list[Trial]:
    """Trials of the same kind: other thresholds, sizes and strengths, without single units."""

    def tried(edit: Intervention) -> Trial:
        return _tried(samples, first.where, edit, first.ranking)

    found = [first]
    if first.edit.gate is not None:
        found += [
            tried(replace(first.edit, threshold=threshold))
            for threshold in search.thresholds
            if threshold != first.edit.threshold
        ]
    best = goal.sorted(found)[0].edit
    size, total = len(best.units), len(first.ranking)
    step = max(1, round(size / _STEPS))
    sizes = range(
        max(1, size - _STEPS * step // 2), min(total, size + _STEPS * step // 3) + 1, step
    )
    found += [tried(_sized(best, first.ranking, k)) for k in sizes if k != size]
    best = goal.sorted(found)[0].edit
    strengths = {min(best.strength * factor, 2.0) for factor in _FACTORS} - {best.strength}
    found += [tried(replace(best, strength=strength)) for strength in sorted(strengths)]
    found += _pruned(goal.sorted(found)[0], goal, tried)
    return found


def _sized(edit: Intervention, ranking: Units, size: int) -> Intervention:
    return replace(edit, units=ranking if size == len(ranking) else ranking.top(size))


def _pruned(best: Trial, goal: Goal, tried: Callable[[Intervention], Trial]) -> Iterator[Trial]:
    """The trial without the units that it can do without, the lowest doses tried first."""
    if goal.shortfall(best.outcome) > 0:
        return
    for unit in reversed(best.edit.units.indices):
        units = best.edit.units
        if len(units) == 1:
            return
        keep = [place for place, other in enumerate(units.indices) if other != unit]
        fewer = replace(
            units,
            indices=tuple(units.indices[place] for place in keep),
            scores=tuple(units.scores[place] for place in keep),
        )
        trial = tried(replace(best.edit, units=fewer))
        if goal.shortfall(trial.outcome) == 0:
            best = trial
            yield trial


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
    units = replace(last.edit.units, rule="auto")
    return Choice(
        last.where,
        replace(last.edit, units=units),
        _continued(units, last.ranking),
        first.outcome,
        last.outcome,
        goal.shortfall(last.outcome) == 0,
    )


def _continued(units: Units, ranking: Units) -> Units:
    """The units, and after them the others of the ranking, in order."""
    others = [unit for unit in ranking.indices if unit not in units.indices]
    return replace(ranking, indices=(*units.indices, *others), scores=(), rule="auto")
