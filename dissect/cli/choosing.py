"""`--rule`: units by a rule, and the edits of `auto`, from a file where one suits."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dissect._utils.errors import DissectError
from dissect._utils.progress import progress_bar
from dissect.cli.labels import open_eyes
from dissect.cli.output import Output

if TYPE_CHECKING:
    from torch import nn

    from dissect.probe import Probe
    from dissect.selection.search import Choice
    from dissect.units import Units

__all__ = ["AUTO_FILE", "by_rule", "check_rule", "known_choices", "look_for_choices"]

AUTO_FILE = "auto.json"
# Classes whose outlines an edit is to keep, where the segmenter knows them.
_KEEP = ("bed",)
# How a probe for auto's gate is fitted, with the segmenter's masks for labels: to more samples
# than anyone draws boxes on, so with a weaker penalty; and to cells that it only reaches into.
_LABELLED = 2_500
_SHARPER = {"inside": 0.3, "C": 0.03, "negatives_per_positive": 6.0}


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


def by_rule(
    rule: str,
    generator: "nn.Module",
    layer: str,
    concept: str,
    probe: "Probe",
    segmenter: str | None,
    *,
    n: int = 1_000,
) -> "Units":
    """The units that a rule other than `auto` chooses, with a progress bar where it takes long.

    Args:
        rule: such as `top:24`.
        generator: the model.
        layer: whose units.
        concept: what they should draw.
        probe: of that layer.
        segmenter: weights of the eyes; None is the bundled ones. Only opened where needed.
        n: samples to choose on.
    """
    from dissect.units import parse_rule

    name = parse_rule(rule).name
    if name in ("positive", "top"):
        return probe.units(rule)
    from dissect.selection.rules import Scorer, scoring_steps

    steps = scoring_steps((name,), n, len(probe.weight))
    with progress_bar("choosing units", steps) as progress:
        scorer = Scorer(
            generator,
            layer,
            concept,
            probe,
            lambda: open_eyes(generator, segmenter),
            n,
            progress,
        )
        return scorer.units(rule)


def known_choices(
    generator: "nn.Module", model: str, layer: str, concept: str, probe: "Probe", out: Path
) -> "dict[str, Choice]":
    """What `auto` chose before for this very model, layer, concept and boxes; empty if nothing.

    First in the folder `out`, then beside the weights of a bundled model.

    Raises:
        DissectError: a damaged file in `out`.
    """
    from dissect.models import bundled, bundled_file, fingerprint

    files = [out / AUTO_FILE]
    if model in bundled():
        with suppress(DissectError):  # where nothing was chosen for this concept and layer
            files.append(bundled_file(model, f"auto-{concept}-{layer}.json"))
    from dissect.selection.stored import load_choices, suits

    mark = fingerprint(generator)
    for file in files:
        if file.exists():
            found = load_choices(file)
            if found and all(suits(one, mark, layer, concept, probe) for one in found.values()):
                return found
    return {}


def look_for_choices(
    generator: "nn.Module",
    layer: str,
    concept: str,
    probe: "Probe",
    segmenter: str | None,
    out: Path,
    output: Output,
    *,
    labels: str = "boxes",
    n: int = 1_000,
) -> "Mapping[str, Choice]":
    """Let `auto` choose, gated and everywhere, and keep what it chose in `out`.

    Args:
        generator: the model.
        layer: whose units.
        concept: what is to be removed.
        probe: fitted to the labels at hand.
        segmenter: weights of the eyes; None is the bundled ones.
        out: folder of the file.
        output: told of the file.
        labels: what the probe was fitted to.
        n: samples to choose on; as many others are there to test on.
    """
    from dissect.probe.fit import fit_from_segmenter
    from dissect.selection.objective import Goal
    from dissect.selection.samples import CHOOSE
    from dissect.selection.search import Search, choose_edit, search_steps
    from dissect.selection.stored import save_choices

    eyes = open_eyes(generator, segmenter)
    eyes.class_id(concept)
    search = Search(n=n)
    with progress_bar("fitting a gate", 1) as progress:
        sharper = fit_from_segmenter(
            generator, eyes, concept, layer, _LABELLED, seed=CHOOSE + 2, scored=False, **_SHARPER
        )
        progress(1)
    probes: dict[str, Probe | None] = {"segmenter": sharper}
    if labels == "boxes":
        probes["boxes"] = probe
    gates: dict[str, dict[str, Probe | None]] = {
        "probe": probes,
        "everywhere": {"everywhere": None},
    }
    keep = tuple(name for name in _KEEP if name in eyes.classes and name != concept)
    # Everywhere, each unit costs the whole picture: less is asked for, and any number of units. A
    # gate does much of what many units would.
    goals = {
        "probe": Goal(keep=keep, kept=0.98, most=0.25),
        "everywhere": Goal(shown=0.03, keep=keep, kept=0.95, slack=1.02),
    }
    steps = sum(search_steps(one, search) for one in gates.values())
    with progress_bar("looking for the best edit", steps) as progress:
        choices = {
            name: choose_edit(
                generator,
                layer,
                eyes,
                concept,
                one,
                goal=goals[name],
                search=search,
                progress=progress,
            )
            for name, one in gates.items()
        }
    output.wrote(save_choices(out / AUTO_FILE, choices))
    return choices
