"""`auto`: the units, their strengths and the gate that remove a concept and little else.

    choice = choose_edit(G, "layer8x8", segmenter, "window", {"probe": probe})
    with choice.intervention.applied(G):
        after = G(z)

A dose of every unit is learned by gradient; the units that do least are cut, and the doses of the
others learned anew; so on to a few. Each of these edits is tried at every gate, the best at other
thresholds and strengths, on one set of latents; they are tested on another; effects are reported
on a third.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress, with_note
from dissect.effect.measure import measure_effect
from dissect.models import fingerprint
from dissect.probe import Probe
from dissect.segmentation import Segmenter
from dissect.selection.objective import Goal, Outcome, Trial
from dissect.selection.samples import CHOOSE, VALIDATE, Samples, quickly, sampled
from dissect.selection.strengths import Lesson, learned_doses
from dissect.surgery.intervention import Intervention
from dissect.units import Rule, Units, rank_units

__all__ = ["Choice", "Goal", "Search", "choose_edit", "search_steps"]

# What doses are learned by. A change of 0.12 outside costs as much as all of the concept that is
# left; so does one pixel in 90 that changes to or from a class that is to be kept, and so would a
# difference of 0.5 to the colours around wherever the concept was.
_LESSON = Lesson(
    elsewhere=8.0,
    outlines=90.0,
    around=2.0,
    square=0.0,
    few=0.1,
    log=True,
    beyond=True,
    most=2.0,
    steps=600,
    batch=32,
    rate=0.03,
)
_AGAIN = 250  # steps after each cut
# Strengths that are tried around that of the learned doses.
_FACTORS = (0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.3)


@dataclass(frozen=True, eq=False)
class Choice:
    """The edit that `auto` chose.

    Attributes:
        where: the name of its gate; `everywhere` for none.
        intervention: units, their doses, strength, gate and threshold.
        fewer: edits of fewer and fewer units, with doses learned for them: of each number the one
            whose change elsewhere is least for what it removes. They are not enough.
        tried: what it did on the latents it was chosen on; flattering.
        tested: what it did on others.
        enough: whether it reached the goal there.
    """

    where: str
    intervention: Intervention
    fewer: tuple[Intervention, ...]
    tried: Outcome
    tested: Outcome
    enough: bool


@dataclass(frozen=True)
class Search:
    """How far `auto` looks.

    Attributes:
        n: samples to learn and to choose on; as many others are there to test on.
        sizes: numbers of units, as shares of the layer's, each cut from the one before.
        thresholds: of a gate.
        finalists: how many edits are looked at more closely, and how many are tested.
        seed: of batches.
    """

    n: int = 1_000
    sizes: tuple[float, ...] = (1.0, 0.7, 0.5, 0.35, 0.25, 0.16, 0.1, 0.06, 0.035, 0.015)
    thresholds: tuple[float, ...] = (0.08, 0.1, 0.12, 0.15, 0.2, 0.3, 0.45, 0.6, 0.8)
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
    progress: ProgressCallback = no_progress,
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
        progress: called with steps done and what is being done; `search_steps` in all.

    Raises:
        DissectError: no gates, or what `sampled` and `learned_doses` raise.
    """
    goal, search = goal or Goal(), search or Search()
    if not gates:
        raise DissectError("auto needs at least one gate to choose from; None is everywhere")
    samples = sampled(model, layer, segmenter, concept, search.n, seed=CHOOSE)
    progress(1, "samples")
    shares = {
        name: None if probe is None else probe.probability(samples.acts).cpu()
        for name, probe in gates.items()
    }
    wanted = goal.stricter()
    lesson = replace(_LESSON, keep=goal.keep, seed=search.seed)
    middle = _middle(search)
    trials: list[Trial] = []
    # Gates differ by little at the cells that count: what is learned for one does for all of them.
    for together in _alike(shares):
        first = shares[together[0]]
        open_cells = None if first is None else first > middle
        # Everywhere, what is done for the colours of a patch is paid for all over the picture.
        own = lesson if first is not None else replace(lesson, around=0.0)
        for units, doses in _learned(samples, own, open_cells, search.sizes, model, progress):
            for name in together:
                edit = Intervention(units, gates[name], threshold=middle, unit_strengths=doses)
                trials.append(_tried(samples, name, edit, goal))
                progress(1, "choosing")
    learned = tuple(trials)
    most = max(goal.most, min(search.sizes)) * samples.acts.shape[1]
    trials = [one for one in learned if len(one.edit.units) <= most]
    for one in wanted.sorted(trials)[: search.finalists]:
        trials += _closer(samples, one, wanted, search)
        progress(1, "looking closer")
    finalists = wanted.sorted(trials)[: search.finalists]
    chosen, last = _tested(model, samples, finalists, goal, search, progress)
    smaller = [
        one
        for one in learned
        if one.where == last.where and len(one.edit.units) < len(last.edit.units)
    ]
    fewer = tuple(_gentlest(samples, one, goal, search) for one in smaller)
    progress(1, "fewer units")
    enough = goal.shortfall(last.outcome) == 0
    return Choice(last.where, last.edit, fewer, chosen.outcome, last.outcome, enough)


def search_steps(gates: Mapping[str, Probe | None], search: Search | None = None) -> int:
    """How many steps `choose_edit` takes, for a progress bar."""
    search = search or Search()
    groups = len({probe is None for probe in gates.values()})
    learning = groups * (_LESSON.steps + len(search.sizes) * _AGAIN)
    return 2 + learning + len(gates) * len(search.sizes) + 2 * search.finalists


def _middle(search: Search) -> float:
    """The threshold at which doses are learned."""
    return sorted(search.thresholds)[len(search.thresholds) // 2]


def _alike(shares: Mapping[str, Tensor | None]) -> Iterator[list[str]]:
    """Names of the gates that share a ranking: all probes, and everywhere."""
    for everywhere in (False, True):
        names = [name for name, share in shares.items() if (share is None) == everywhere]
        if names:
            yield names


def _learned(
    samples: Samples,
    lesson: Lesson,
    open_cells: Tensor | None,
    sizes: Sequence[float],
    model: nn.Module,
    progress: ProgressCallback,
) -> Iterator[tuple[Units, tuple[float, ...]]]:
    """Fewer and fewer units, those that do most first, each time with doses learned for them."""
    learn = partial(
        learned_doses, samples, open_cells=open_cells, progress=with_note(progress, "learning")
    )
    doses = learn(lesson, start=0.0)
    for share in sizes:
        # What a dose takes away, where the concept is.
        impact = doses * samples.inside()
        count = max(1, min(round(share * len(doses)), int((impact > 0).sum())))
        among = torch.zeros(len(doses), dtype=torch.bool)
        among[impact.topk(count).indices] = True
        doses = learn(replace(lesson, steps=_AGAIN), start=doses, among=among)
        ranking = rank_units(
            (doses * samples.inside()).tolist(),
            layer=samples.layer,
            rule=Rule("auto", count),
            concept=samples.concept,
            model=fingerprint(model),
        )
        yield replace(ranking, rule="auto"), tuple(doses[list(ranking.indices)].tolist())


def _tried(
    samples: Samples, where: str, edit: Intervention, goal: Goal, *, exact: bool = False
) -> Trial:
    with quickly(samples.inputs.device, exact=exact):
        effect = measure_effect(
            samples.rest,
            samples.segmenter,
            samples.inputs,
            samples.concept,
            edit,
            before=samples.seen,
            with_features=False,
        )
    return Trial(where, edit, Outcome.of(effect, goal.keep))


def _closer(samples: Samples, first: Trial, goal: Goal, search: Search) -> list[Trial]:
    """Trials of the same units at other thresholds, then at other strengths."""
    found = _at_thresholds(samples, first, goal, search.thresholds)
    best = goal.sorted([first, *found])[0].edit
    return found + [
        _tried(samples, first.where, best.with_strength(factor), goal) for factor in _FACTORS
    ]


def _gentlest(samples: Samples, first: Trial, goal: Goal, search: Search) -> Intervention:
    """The edit where its gate opens less, if it then changes less elsewhere for what it removes."""
    narrower = [threshold for threshold in search.thresholds if threshold > first.edit.threshold]
    found = [first, *_at_thresholds(samples, first, goal, narrower)]
    return min(
        found, key=lambda one: one.outcome.outside_change / max(one.outcome.removed, 1e-6)
    ).edit


def _at_thresholds(
    samples: Samples, first: Trial, goal: Goal, thresholds: Sequence[float]
) -> list[Trial]:
    """Trials of the same edit at other thresholds of its gate, where it has one."""
    if first.edit.gate is None:
        return []
    return [
        _tried(samples, first.where, replace(first.edit, threshold=threshold), goal)
        for threshold in thresholds
        if threshold != first.edit.threshold
    ]


def _tested(
    model: nn.Module,
    samples: Samples,
    finalists: Sequence[Trial],
    goal: Goal,
    search: Search,
    progress: ProgressCallback,
) -> tuple[Trial, Trial]:
    """The first of the finalists that is enough on other latents, else the one that is closest.

    As it was tried, and as it was tested.
    """
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
        tested.append(_tried(others, one.where, one.edit, goal, exact=True))
        progress(1, "testing")
        if goal.shortfall(tested[-1].outcome) == 0:
            break
    last = min(tested, key=lambda one: goal.shortfall(one.outcome))
    return finalists[tested.index(last)], last
