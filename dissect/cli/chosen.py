"""`dissect ablate --rule auto`: the chosen edits drawn beside random units edited alike."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dissect._utils.errors import DissectError
from dissect.cli.choosing import known_choices, look_for_choices
from dissect.cli.output import Output
from dissect.cli.saving import save_edited, saved_text

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dissect.probe import Probe
    from dissect.selection.search import Choice
    from dissect.surgery.intervention import Intervention

__all__ = ["Wanted", "ablate_chosen", "choice_text", "choice_values", "chosen_edits"]


def chosen_edits(
    rule: str | None,
    generator: "nn.Module",
    model: str,
    layer: str,
    concept: str,
    probe: "Probe",
    *,
    plain: bool,
    labels: str,
    segmenter: str | None,
    out: Path,
    output: Output,
) -> "Mapping[str, Choice]":
    """The edits of `auto`, by `probe` and `everywhere`; empty where another rule is asked for.

    Args:
        rule: what the user asked for; None takes `auto` where it chose before.
        generator: the model.
        model: what it was loaded by.
        layer: whose units.
        concept: what is to be removed.
        probe: fitted to the labels at hand.
        plain: whether the user left strength, threshold, replacement and region alone.
        labels: what the probe was fitted to: `boxes` or `segmenter`.
        segmenter: weights of the eyes.
        out: folder in which choices are kept.
        output: told of the file, where `auto` has to choose.

    Raises:
        DissectError: `auto` asked for with a strength, threshold, replacement or region.
    """
    if rule not in (None, "auto"):
        return {}
    if not plain:
        if rule is None:
            return {}
        raise DissectError(
            "auto chooses strength, threshold and replacement itself: leave out --strength, "
            "--threshold, --replace, --region and --excise, or name another rule"
        )
    known = known_choices(generator, model, layer, concept, probe, out)
    if known or rule is None:
        return known
    return look_for_choices(generator, layer, concept, probe, segmenter, out, output, labels=labels)


@dataclass(frozen=True)
class Wanted:
    """What `dissect ablate` was asked for, beside the edit.

    Attributes:
        model: what the generator was loaded by.
        where: `both`, `probe` or `everywhere`.
        n: samples shown.
        columns: of them in a row.
        seed: of the random units.
        save: where the edited generator goes.
        force: replace a file.
        out: folder of the picture.
    """

    model: str
    where: str
    n: int
    columns: int
    seed: int
    save: Path | None
    force: bool
    out: Path


def ablate_chosen(
    choices: "Mapping[str, Choice]",
    generator: "nn.Module",
    probe: "Probe",
    z: "Tensor",
    wanted: Wanted,
    output: Output,
) -> None:
    """Draw some of the fresh latents `z` before, under each edit, and with random units instead."""
    n, where = wanted.n, wanted.where
    from dissect._utils.io import write_image
    from dissect.effect.compare import draw_each, top_samples_by_concept
    from dissect.figures import labelled_rows

    shown = list(range(n)) if len(z) == n else top_samples_by_concept(generator, probe, z, n)
    names = [name for name in ("probe", "everywhere") if where in ("both", name)]
    edits = {name: choices[name].intervention for name in names if name in choices}
    concept = choices[names[0]].intervention.units.concept or "concept"
    place = {"probe": f"where a probe\nsees a {concept}", "everywhere": "everywhere"}
    states: dict[str, Intervention | None] = {"before": None}
    for name, edit in edits.items():
        states[f"{len(edit.units)} units, {_how(edit)}\n{place[name]}"] = edit
    for name, edit in edits.items():
        states[f"{len(edit.units)} random units,\nthe same, {place[name]}"] = edit.control(
            wanted.seed
        )
    rows = draw_each(generator, z[shown], states)
    taken = (
        f"{n} fresh samples"
        if len(z) == n
        else f"the {n} of {len(z)} fresh samples in which the probe sees most {concept}"
    )
    first = edits[names[0]]
    caption = f"{wanted.model}, {first.units.layer}, rule auto: {taken}"
    output.wrote(
        write_image(
            wanted.out / "ablate.png", labelled_rows(rows, columns=wanted.columns, caption=caption)
        )
    )
    saved = None
    if wanted.save is not None:
        about = {
            "rule": "auto",
            "concept": concept,
            "where": where,
            "gate": choices[names[0]].where,
            "threshold": None if first.gate is None else first.threshold,
            "strength": first.strength,
            "doses": first.unit_strengths,
        }
        saved = save_edited(
            wanted.save,
            generator,
            first,
            z[shown],
            about=about,
            exact=False,
            force=wanted.force,
        )
        output.wrote(wanted.save)
    values = {
        "concept": concept,
        "layer": first.units.layer,
        "rule": "auto",
        "where": where,
        **choice_values(choices[names[0]]),
        "edits": {name: choice_values(choices[name]) for name in edits},
        "n_samples": n,
        "among": len(z),
        "shown": shown,
        "seed": wanted.seed,
        "saved": saved,
    }
    lines = [f"rule auto on {taken}:"]
    lines += [f"  {choice_text(choices[name])}" for name in edits]
    if saved is not None:
        lines.append(saved_text(saved))
    output.result(values, "\n".join(lines))


def choice_values(choice: "Choice") -> dict[str, Any]:
    """A choice for JSON: the edit, and what it did on the latents that it was tested on."""
    edit = choice.intervention
    return {
        "gate": choice.where,
        "threshold": None if edit.gate is None else edit.threshold,
        "strength": edit.strength,
        "doses": None if edit.unit_strengths is None else list(edit.unit_strengths),
        "n_selected": len(edit.units),
        "units": list(edit.units.indices),
        "enough": choice.enough,
        "tested": asdict(choice.tested),
    }


def choice_text(choice: "Choice") -> str:
    """A choice in a line."""
    edit, tested = choice.intervention, choice.tested
    gate = {
        "everywhere": "everywhere",
        "boxes": f"where the probe of the boxes is above {edit.threshold:g}",
        "segmenter": f"where a probe of the segmenter's masks is above {edit.threshold:g}",
    }[choice.where]
    return (
        f"{len(edit.units)} of {edit.units.total} units, {_how(edit)}, {gate}: "
        f"{tested.removed:.1%} removed, {tested.shown:.1%} of images show it still, mean change "
        f"outside {tested.outside_change:.4f} (on {tested.n} samples that it was tested on)"
    )


def _how(edit: "Intervention") -> str:
    if edit.unit_strengths is not None:
        return "each by its own strength"
    return "removed" if edit.strength == 1 else f"removed {edit.strength:g} times"
