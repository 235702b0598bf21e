"""The search for the units, strengths and gate that remove a concept and change little else.

The strength of every unit is optimised by gradient; the units that do least are cut, and the
strengths of the others optimised anew, down to a few units. Each of these edits is tried at every
gate, the best ones at other thresholds and strengths, on one set of latents. The finalists are
tested on a second set; effects are reported on a third.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress, with_note
from dissect._utils.result import Result
from dissect.effect.measure import measure_effect
from dissect.models import fingerprint
from dissect.probe import Probe
from dissect.segmentation import Segmenter
from dissect.selection.objective import Metrics, Objective, Trial
from dissect.selection.samples import (
    HOLDOUT_SEED,
    SEARCH_SEED,
    Samples,
    draw_samples,
    in_autocast,
)
from dissect.selection.strengths import StrengthObjective, optimize_strengths
from dissect.surgery.intervention import Intervention
from dissect.units import Rule, Units, rank_units

__all__ = ["SearchConfig", "SearchResult", "search_edit", "search_steps"]

# The price of strengths. A change of 0.12 outside costs as much as all of the concept that is
# left; so does one pixel in 90 that changes to or from a class that is to be kept, and so would a
# difference of 0.5 to the colours around wherever the concept was.
_STRENGTHS = StrengthObjective(
    outside=8.0,
    outlines=90.0,
    inpainting=2.0,
    l2=0.0,
    l1=0.1,
    log=True,
    all_pixels=True,
    max_strength=2.0,
    steps=600,
    batch_size=32,
    learning_rate=0.03,
)
_STEPS_AFTER_CUT = 250
# Strengths that are tried around the optimised ones.
_FACTORS = (0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.3)


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult(Result):
    """The edit that a search found.

    Attributes:
        gate_name: the name of its gate; `everywhere` for none.
        intervention: units, their strengths, gate and threshold.
        smaller: edits of fewer and fewer units, with strengths optimised for them: of each number
            the one whose change elsewhere is least for what it removes. They miss the objective.
        search: its metrics on the latents that it was chosen on; flattering.
        holdout: its metrics on other latents.
        meets_objective: whether it met the objective there.
    """

    gate_name: str
    intervention: Intervention
    smaller: tuple[Intervention, ...]
    search: Metrics
    holdout: Metrics
    meets_objective: bool

    def to_dict(self) -> dict[str, Any]:
        """The edit in short, and its metrics; `Intervention.to_dict` gives the edit whole."""
        edit = self.intervention
        return {
            "gate": self.gate_name,
            "threshold": None if edit.gate is None else edit.threshold,
            "strength": edit.strength,
            "unit_strengths": None if edit.unit_strengths is None else list(edit.unit_strengths),
            "n_selected": len(edit.units),
            "units": list(edit.units.indices),
            "meets_objective": self.meets_objective,
            "search": self.search.to_dict(),
            "holdout": self.holdout.to_dict(),
        }

    def summary(self) -> dict[str, Any]:
        """The number of units, the gate, and the metrics on held-out latents."""
        held = self.holdout
        return {
            "units": len(self.intervention.units),
            "gate": self.gate_name,
            "removed": held.removed,
            "prevalence": held.prevalence,
            "outside_change": held.outside_change,
            "meets_objective": self.meets_objective,
        }


@dataclass(frozen=True, repr=False)
class SearchConfig(ShortRepr):
    """How far a search goes.

    Attributes:
        n: samples to optimise and to choose on; as many others test.
        sizes: numbers of units, as fractions of the layer's, each cut from the one before.
        thresholds: of a gate.
        finalists: how many edits are refined, and how many are tested.
        seed: of batches.
    """

    n: int = 1_000
    sizes: tuple[float, ...] = (1.0, 0.7, 0.5, 0.35, 0.25, 0.16, 0.1, 0.06, 0.035, 0.015)
    thresholds: tuple[float, ...] = (0.08, 0.1, 0.12, 0.15, 0.2, 0.3, 0.45, 0.6, 0.8)
    finalists: int = 3
    seed: int = 0


def search_edit(
    model: nn.Module,
    layer: str,
    segmenter: Segmenter,
    concept: str,
    gates: Mapping[str, Probe | None],
    *,
    objective: Objective | None = None,
    config: SearchConfig | None = None,
    progress: ProgressCallback = no_progress,
) -> SearchResult:
    """The best edit of one layer among given gates (see `Objective`).

    Args:
        model: the generator, in eval mode.
        layer: the layer whose units are edited.
        segmenter: with probabilities.
        concept: one of its classes.
        gates: by name, the probes that may gate the edit; None lets it act everywhere.
        objective: what an edit must reach.
        config: how far the search goes.
        progress: called with steps done and what is being done.

    Raises:
        DissectError: no gates, or what `draw_samples` and `optimize_strengths` raise.
    """
    objective, config = objective or Objective(), config or SearchConfig()
    if not gates:
        raise DissectError("a search needs at least one gate to choose from; None is everywhere")
    samples = draw_samples(model, layer, segmenter, concept, config.n, seed=SEARCH_SEED)
    progress(1, "samples")
    probabilities = {
        name: None if probe is None else probe.probability(samples.acts).cpu()
        for name, probe in gates.items()
    }
    wanted = objective.stricter()
    prices = replace(_STRENGTHS, keep=objective.keep, seed=config.seed)
    middle = _middle(config)
    trials: list[Trial] = []
    # Gates differ by little at the cells that count: strengths optimised for one serve them all.
    for names in _alike(probabilities):
        first = probabilities[names[0]]
        open_cells = None if first is None else first > middle
        # Everywhere, what is done for the colours of a patch is paid for all over the picture.
        own = prices if first is not None else replace(prices, inpainting=0.0)
        for units, strengths in _optimized(samples, own, open_cells, config.sizes, model, progress):
            for name in names:
                edit = Intervention(units, gates[name], threshold=middle, unit_strengths=strengths)
                trials.append(_tried(samples, name, edit, objective))
                progress(1, "choosing")
    first_trials = tuple(trials)
    most = max(objective.max_units, min(config.sizes)) * samples.acts.shape[1]
    trials = [one for one in first_trials if len(one.edit.units) <= most]
    for one in wanted.ranked(trials)[: config.finalists]:
        trials += _refined(samples, one, wanted, config)
        progress(1, "refining")
    finalists = wanted.ranked(trials)[: config.finalists]
    chosen, last = _tested(model, samples, finalists, objective, config, progress)
    smaller = [
        one
        for one in first_trials
        if one.gate_name == last.gate_name and len(one.edit.units) < len(last.edit.units)
    ]
    gentlest = tuple(_gentlest(samples, one, objective, config) for one in smaller)
    progress(1, "fewer units")
    meets = objective.shortfall(last.metrics) == 0
    return SearchResult(last.gate_name, last.edit, gentlest, chosen.metrics, last.metrics, meets)


def search_steps(config: SearchConfig | None = None, *, gates: int = 1) -> int:
    """How many steps a search takes at most, for a progress bar.

    Args:
        config: of the search.
        gates: how many gates it tries.
    """
    config = config or SearchConfig()
    optimizing = _STRENGTHS.steps + len(config.sizes) * _STEPS_AFTER_CUT
    return 3 + optimizing + gates * len(config.sizes) + 2 * config.finalists


def _middle(config: SearchConfig) -> float:
    """The threshold at which strengths are optimised."""
    return sorted(config.thresholds)[len(config.thresholds) // 2]


def _alike(probabilities: Mapping[str, Tensor | None]) -> Iterator[list[str]]:
    """Names of the gates that share a ranking: all probes, and everywhere."""
    for everywhere in (False, True):
        names = [name for name, one in probabilities.items() if (one is None) == everywhere]
        if names:
            yield names


def _optimized(
    samples: Samples,
    objective: StrengthObjective,
    open_cells: Tensor | None,
    sizes: Sequence[float],
    model: nn.Module,
    progress: ProgressCallback,
) -> Iterator[tuple[Units, tuple[float, ...]]]:
    """Fewer and fewer units, those that do most first, each time with strengths of their own."""
    optimize = partial(
        optimize_strengths,
        samples,
        open_cells=open_cells,
        progress=with_note(progress, "optimizing strengths"),
    )
    strengths = optimize(objective, start=0.0)
    for size in sizes:
        # What a strength takes away, where the concept is.
        impact = strengths * samples.mean_inside()
        count = max(1, min(round(size * len(strengths)), int((impact > 0).sum())))
        among = torch.zeros(len(strengths), dtype=torch.bool)
        among[impact.topk(count).indices] = True
        strengths = optimize(
            replace(objective, steps=_STEPS_AFTER_CUT), start=strengths, among=among
        )
        ranking = rank_units(
            (strengths * samples.mean_inside()).tolist(),
            layer=samples.layer,
            rule=Rule("auto", count),
            concept=samples.concept,
            model=fingerprint(model),
        )
        yield replace(ranking, rule="auto"), tuple(strengths[list(ranking.indices)].tolist())


def _tried(
    samples: Samples,
    gate_name: str,
    edit: Intervention,
    objective: Objective,
    *,
    exact: bool = False,
) -> Trial:
    with in_autocast(samples.inputs.device, exact=exact or samples.exact):
        effect = measure_effect(
            samples.tail,
            samples.segmenter,
            samples.inputs,
            samples.concept,
            edit,
            before=samples.observed,
            with_features=False,
        )
    return Trial(gate_name, edit, Metrics.from_effect(effect, objective.keep))


def _refined(
    samples: Samples, first: Trial, objective: Objective, config: SearchConfig
) -> list[Trial]:
    """Trials of the same units at other thresholds, then at other strengths."""
    trials = _at_thresholds(samples, first, objective, config.thresholds)
    best = objective.ranked([first, *trials])[0].edit
    return trials + [
        _tried(samples, first.gate_name, best.with_strength(factor), objective)
        for factor in _FACTORS
    ]


def _gentlest(
    samples: Samples, first: Trial, objective: Objective, config: SearchConfig
) -> Intervention:
    """The edit where its gate opens less, if it then changes less elsewhere for what it removes."""
    narrower = [threshold for threshold in config.thresholds if threshold > first.edit.threshold]
    trials = [first, *_at_thresholds(samples, first, objective, narrower)]
    return min(
        trials, key=lambda one: one.metrics.outside_change / max(one.metrics.removed, 1e-6)
    ).edit


def _at_thresholds(
    samples: Samples, first: Trial, objective: Objective, thresholds: Sequence[float]
) -> list[Trial]:
    """Trials of the same edit at other thresholds of its gate, where it has one."""
    if first.edit.gate is None:
        return []
    return [
        _tried(samples, first.gate_name, replace(first.edit, threshold=threshold), objective)
        for threshold in thresholds
        if threshold != first.edit.threshold
    ]


def _tested(
    model: nn.Module,
    samples: Samples,
    finalists: Sequence[Trial],
    objective: Objective,
    config: SearchConfig,
    progress: ProgressCallback,
) -> tuple[Trial, Trial]:
    """The first finalist that meets the objective on other latents, else the closest.

    As it was tried in the search, and as it was tested.
    """
    held_out = draw_samples(
        model,
        samples.layer,
        samples.segmenter,
        samples.concept,
        config.n,
        seed=HOLDOUT_SEED,
        exact=True,
    )
    tested = []
    for one in finalists:
        tested.append(_tried(held_out, one.gate_name, one.edit, objective, exact=True))
        progress(1, "testing")
        if objective.shortfall(tested[-1].metrics) == 0:
            break
    last = min(tested, key=lambda one: objective.shortfall(one.metrics))
    return finalists[tested.index(last)], last
