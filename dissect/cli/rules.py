"""`dissect rules`: every rule that chooses units, measured beside the others."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect._utils.progress import progress_bar
from dissect.cli.options import LabelOptions, ModelOptions, OutputOptions, with_groups
from dissect.cli.output import Output
from dissect.cli.rules_text import rules_text
from dissect.cli.searched import find_or_search
from dissect.cli.study import Study

if TYPE_CHECKING:
    from dissect.probe import Probe
    from dissect.surgery import Intervention

__all__ = ["rules"]

_RANKED = ("positive", "iou", "ace", "causal", "gradient")
_RANDOM = "random"


@with_groups
def rules(
    model: ModelOptions,
    labels: LabelOptions,
    output: OutputOptions,
    n: Annotated[
        int, typer.Option("--n", help="Fresh latents to measure on.", min=20, max=100_000)
    ] = 500,
    search_n: Annotated[
        int,
        typer.Option("--search-n", help="Samples that the rules choose on.", min=20, max=100_000),
    ] = 1_000,
) -> None:
    """Compare every rule as it takes more units, everywhere and gated: a table and a curve."""
    printed = Output(as_json=output.as_json)
    with progress_bar("loading", 2) as progress:
        study = Study.load(model, labels)
        progress(1)
        from dissect.effect.curves import advantages, at_sizes, measure_rules
        from dissect.selection.rules import Scorer, scoring_steps

        generator, probe, segmenter = study.generator, study.probe, study.segmenter
        z = study.fresh(n, output.seed)
        progress(1)
    results = find_or_search(study, printed, output.out, n=search_n)
    steps = scoring_steps(_RANKED, search_n, len(probe.weight))
    with progress_bar("ranking", steps) as progress:
        scorer = Scorer(
            generator, study.layer, study.concept, probe, lambda: segmenter, search_n, progress
        )
        rankings = {name: scorer.ranking(name) for name in _RANKED}
    edits: dict[tuple[str, str], Intervention | Sequence[Intervention]] = {}
    own: dict[tuple[str, str], int] = {}
    for where, gate in (("everywhere", None), ("probe", probe)):
        edit = results[where].intervention
        edits["auto", where] = [*results[where].smaller, edit]
        own["auto", where] = len(edit.units)
        edits |= _edits(rankings, where, gate)
        own["positive", where] = len(rankings["positive"])
        edits[_RANDOM, where] = _shuffled(edit, output.seed)
    trials = sum(len(at_sizes(edit, own.get(name))) for name, edit in edits.items())
    with progress_bar("measuring", n * (1 + trials)) as progress:
        curves = measure_rules(
            generator, edits, own, z, segmenter, study.concept, progress=progress
        )
    with progress_bar("summing up", 2) as progress:
        from dissect._utils.io import write_image
        from dissect.figures import rasterized, rules_figure

        compared = []
        for where in ("everywhere", "probe"):
            best, *others = [curve for curve in curves if curve.where == where]
            compared += advantages(best, [one for one in others if one.rule != _RANDOM])
        progress(1)
        figure = rasterized(rules_figure(curves, study.concept))
        printed.wrote(write_image(output.out / "rules.png", figure))
        progress(1)
    values: dict[str, Any] = {
        "concept": study.concept,
        "layer": study.layer,
        "labels": labels.labels,
        "n_samples": n,
        "seed": output.seed,
        "rules": {
            where: {one.rule: one.rows() for one in curves if one.where == where}
            for where in ("everywhere", "probe")
        },
        "auto": {name: one.to_dict() for name, one in results.items()},
        "advantages": [one.to_dict() for one in compared],
    }
    printed.result(values, rules_text(curves, compared, results))


def _edits(
    rankings: "Mapping[str, Any]", where: str, gate: "Probe | None"
) -> "dict[tuple[str, str], Intervention]":
    """The paper's edit, of each rule's units."""
    from dissect.surgery import Intervention

    return {(name, where): Intervention(units, gate) for name, units in rankings.items()}


def _shuffled(edit: "Intervention", seed: int) -> "Intervention":
    """The edit of all units of the layer in random order; its unit strengths are repeated."""
    from itertools import cycle, islice

    import numpy as np

    total = edit.units.total
    order: Sequence[int] = np.random.default_rng(seed).permutation(total).tolist()
    units = replace(edit.units, indices=tuple(order), scores=(), rule=_RANDOM)
    strengths = edit.unit_strengths
    if strengths is not None:
        strengths = tuple(islice(cycle(strengths), total))
    return replace(edit, units=units, unit_strengths=strengths)
