"""Rules and searches with a progress bar: the units or the edit that the library chooses."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dissect._utils.errors import DissectError
from dissect._utils.progress import progress_bar
from dissect.cli.output import Output
from dissect.cli.study import Study

if TYPE_CHECKING:
    from dissect.selection.search import SearchResult
    from dissect.units import Units

__all__ = ["check_rule", "find_or_search", "new_search", "search_text", "units_by_rule"]

_SAMPLES = 1_000


def check_rule(rule: str) -> None:
    """Nothing, where `rule` names a rule that chooses units alone.

    Raises:
        DissectError: an unknown rule, or `auto`, before any work is done.
    """
    from dissect.units import parse_rule

    if parse_rule(rule).name == "auto":
        raise DissectError(
            "auto chooses units, strength and gate together, where units alone are asked for: "
            "name another rule, such as causal:24"
        )


def units_by_rule(rule: str, study: Study, *, n: int = _SAMPLES) -> "Units":
    """The units that a rule other than `auto` chooses.

    Args:
        rule: such as `top:24`.
        study: the model and the concept.
        n: samples to choose on, where the rule measures.

    Raises:
        DissectError: an unknown rule, `auto`, or more units than the layer has.
    """
    from dissect.units import parse_rule

    check_rule(rule)
    name = parse_rule(rule).name
    if name in ("positive", "top"):
        return study.probe.units(rule)
    from dissect.selection.rules import Scorer, scoring_steps

    steps = scoring_steps((name,), n, len(study.probe.weight))
    with progress_bar("choosing units", steps) as progress:
        scorer = Scorer(
            study.generator,
            study.layer,
            study.concept,
            study.probe,
            lambda: study.segmenter,
            n,
            progress,
            # Boxes alone are enough to choose by overlap.
            study.labels if name == "iou" and not study.is_measurable else None,
        )
        return scorer.units(rule)


def find_or_search(
    study: Study, output: Output, out: Path, *, search: bool = True, n: int = _SAMPLES
) -> "Mapping[str, SearchResult]":
    """The edits of an earlier search, else of a new one, by `probe` and `everywhere`.

    An earlier search of this very model, layer, concept and boxes is looked for in the folder
    `out` and beside the weights of a bundled model.

    Args:
        study: the model and the concept.
        output: reports the file, where a search is made.
        out: the folder of its file.
        search: whether to search where nothing was found before; else the result is empty.
        n: samples to search on; as many others test what was found.

    Raises:
        DissectError: a damaged file in `out`, or a concept that the segmenter does not know.
    """
    from dissect.selection import find_results

    results = find_results(
        out, study.options.model, study.fingerprint, study.layer, study.concept, study.probe
    )
    if results or not search:
        return results
    return new_search(study, output, out, n=n)


def new_search(
    study: Study, output: Output, out: Path, *, n: int = _SAMPLES
) -> "Mapping[str, SearchResult]":
    """The edits of a new search, kept in `out`."""
    from dissect.selection import (
        SEARCH_FILE,
        SearchConfig,
        save_results,
        search_intervention,
        search_steps,
    )

    boxes = study.label_options.source == "boxes"
    config = SearchConfig(n=n)
    steps = search_steps(config, gates=1 + boxes) + search_steps(config)
    with progress_bar("searching for the best edit", steps) as progress:
        results = {
            name: search_intervention(
                study.generator,
                study.concept,
                layer=study.layer,
                gated=name == "probe",
                segmenter=study.segmenter,
                probe=study.probe if boxes else None,
                config=config,
                progress=progress,
            )
            for name in ("probe", "everywhere")
        }
    output.wrote(save_results(out / SEARCH_FILE, results))
    return results


def search_text(result: "SearchResult") -> str:
    """What a search found, in a line."""
    from dissect.cli.edit_text import edit_text

    held = result.holdout
    return (
        f"{edit_text(result.intervention)}: {held.removed:.1%} removed, "
        f"{held.prevalence:.1%} of images show it still, mean change outside "
        f"{held.outside_change:.4f} (on {held.n} held-out samples)"
    )
