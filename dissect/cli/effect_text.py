"""What `dissect effect` prints for people: three small tables."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dissect._utils.stats import Estimate
    from dissect.effect.report import ControlDistance, EffectReport
    from dissect.effect.summary import Distance, Summary
    from dissect.surgery.intervention import Intervention

__all__ = ["effect_text"]

_FRACTION_LISTED = 0.0005


def effect_text(report: "EffectReport", interventions: Mapping[str, "Intervention"]) -> str:
    """The tables of an effect: removed and changed, kept, and what replaced the concept."""
    edits, random = report.edits, report.random
    first, controls = next(iter(edits.values())), next(iter(random.values()))
    concept = first.concept
    noun = next(iter(interventions.values())).units.noun
    lines = [
        f"{_edits_line(interventions)} on {first.n} fresh latents; {controls.sets} random sets of "
        f"as many {noun} on the first {controls.n}",
        f"images that show a {concept} before: {_number(first.shown_before.value, '.1%')}",
        "",
        f"{'':<20}{f'{concept} removed (95%)':<30}{'shown after':<13}{'kept, mean IoU':<16}"
        f"{'change outside':<16}{'inside':<9}Fréchet distance",
    ]
    for name, edit in edits.items():
        lines.append(_row(name, edit, _edit_distance(report.distances.get(name))))
        if name not in random:
            continue
        distance = _random_distance(report.control_distances.get(name))
        lines.append(_row(f"  random {noun}", random[name], distance))
        removals = [control.removal() for control in report.study.random[name]]
        lines.append(
            f"  each set: {_number(min(removals), '.1%')} to {_number(max(removals), '.1%')} "
            f"removed; {report.as_much(name)} of {len(removals)} remove as much as the edit"
        )
    lines += ["", *_kept(edits, random), "", *_replacements(concept, edits)]
    return "\n".join(lines)


def _edits_line(edits: Mapping[str, "Intervention"]) -> str:
    """The edits, each by its number of units and strength; once where they are alike."""
    units = next(iter(edits.values())).units
    texts = {
        name: f"{len(edit.units)} {edit.units.noun} of {units.layer}, "
        + (
            f"strength {edit.strength:g}"
            if edit.unit_strengths is None
            else "each by its own strength"
        )
        for name, edit in edits.items()
    }
    if len(set(texts.values())) > 1:
        return f"rule {units.rule}: " + "; ".join(f"{name} {text}" for name, text in texts.items())
    return f"rule {units.rule}: {next(iter(texts.values()))},"


def _row(name: str, edit: "Summary", frechet: str) -> str:
    return (
        f"{name:<20}{_with_interval(edit.removed, '.1%'):<30}"
        f"{_number(edit.shown_after.value, '.1%'):<13}{_number(edit.kept_mean.value, '.3f'):<16}"
        f"{_number(edit.outside_change.value, '.4f'):<16}"
        f"{_number(edit.inside_change.value, '.3f'):<9}{frechet}"
    )


def _edit_distance(distance: "Distance | None") -> str:
    if distance is None:
        return "-"
    low, high = distance.change.interval
    return f"{distance.before.value:.2f} to {distance.after.value:.2f} ({low:+.2f} to {high:+.2f})"


def _random_distance(distance: "ControlDistance | None") -> str:
    if distance is None:
        return "-"
    edit = f"(the edit, on as many: {distance.edit:.2f})"
    return f"{distance.before:.2f} to {distance.mean:.2f} {edit}"


def _kept(edits: Mapping[str, "Summary"], random: Mapping[str, "Summary"]) -> list[str]:
    lines = [
        f"{'IoU before and after':<24}"
        + "".join(f"{name:<26}{'random' if name in random else '':<9}" for name in edits)
    ]
    for label in next(iter(edits.values())).kept:
        line = f"{label:<24}"
        for name, edit in edits.items():
            control = _number(random[name].kept[label].value, ".3f") if name in random else ""
            line += f"{_with_interval(edit.kept[label], '.3f'):<26}{control:<9}"
        lines.append(line.rstrip())
    return lines


def _replacements(concept: str, edits: Mapping[str, "Summary"]) -> list[str]:
    lines = [f"{f'what was {concept} is now':<24}" + "".join(f"{name:<26}" for name in edits)]
    largest = {
        label: max(edit.replaced_by[label].value for edit in edits.values())
        for label in next(iter(edits.values())).replaced_by
    }
    for label in sorted(largest, key=lambda label: -largest[label]):
        if not largest[label] >= _FRACTION_LISTED:
            continue
        line = f"{label + ' (left)' if label == concept else label:<24}"
        for edit in edits.values():
            line += f"{_with_interval(edit.replaced_by[label], '.1%'):<26}"
        lines.append(line.rstrip())
    return lines


def _with_interval(estimate: "Estimate", form: str) -> str:
    if math.isnan(estimate.value):
        return "-"
    low, high = estimate.interval
    return f"{estimate.value:{form}} ({_number(low, form)} to {_number(high, form)})"


def _number(value: float, form: str) -> str:
    """The number, or a dash where there is nothing to measure."""
    return "-" if math.isnan(value) else f"{value:{form}}"
