"""What `dissect effect` says to people: three small tables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dissect.effect.report import ControlDistance, EffectReport
    from dissect.effect.summary import Distance, Summary
    from dissect.surgery.intervention import Intervention

__all__ = ["effect_text"]

_SHARE_LISTED = 0.0005


def effect_text(found: "EffectReport", made: Mapping[str, "Intervention"]) -> str:
    """The tables of an effect: removed and changed, kept, and what replaced the concept."""
    edits, random = found.edits, found.random
    first, controls = next(iter(edits.values())), next(iter(random.values()))
    concept = first.concept
    lines = [
        f"{_made(made)} on {first.n} fresh latents; {controls.sets} random sets of as many units "
        f"on the first {controls.n}",
        f"images that show a {concept} before: {first.shown_before.value:.1%}",
        "",
        f"{'':<20}{f'{concept} removed (95%)':<30}{'shown after':<13}{'kept, mean IoU':<16}"
        f"{'change outside':<16}{'inside':<9}Fréchet distance",
    ]
    for name, one in edits.items():
        lines.append(_row(name, one, _edit_distance(found.distances.get(name))))
        if name not in random:
            continue
        distance = _random_distance(found.control_distances.get(name))
        lines.append(_row("  random units", random[name], distance))
        spread = [one.removal() for one in found.study.random[name]]
        lines.append(
            f"  each set: {min(spread):.1%} to {max(spread):.1%} removed; {found.as_much(name)} of "
            f"{len(spread)} remove as much as the edit"
        )
    lines += ["", *_kept(edits, random), "", *_replacements(concept, edits)]
    return "\n".join(lines)


def _made(edits: Mapping[str, "Intervention"]) -> str:
    """The edits, each by its number of units and strength; once where they are alike."""
    units = next(iter(edits.values())).units
    said = {
        name: f"{len(edit.units)} units of {units.layer}, "
        + (
            f"strength {edit.strength:g}"
            if edit.unit_strengths is None
            else "each by its own strength"
        )
        for name, edit in edits.items()
    }
    if len(set(said.values())) > 1:
        return f"rule {units.rule}: " + "; ".join(f"{name} {text}" for name, text in said.items())
    return f"rule {units.rule}: {next(iter(said.values()))},"


def _row(name: str, one: "Summary", frechet: str) -> str:
    low, high = one.removed.interval
    removed = f"{one.removed.value:.1%} ({low:.1%} to {high:.1%})"
    return (
        f"{name:<20}{removed:<30}{f'{one.shown_after.value:.1%}':<13}"
        f"{f'{one.kept_mean.value:.3f}':<16}{f'{one.outside_change.value:.4f}':<16}"
        f"{f'{one.inside_change.value:.3f}':<9}{frechet}"
    )


def _edit_distance(found: "Distance | None") -> str:
    if found is None:
        return "-"
    low, high = found.change.interval
    return f"{found.before.value:.2f} to {found.after.value:.2f} ({low:+.2f} to {high:+.2f})"


def _random_distance(found: "ControlDistance | None") -> str:
    if found is None:
        return "-"
    return f"{found.before:.2f} to {found.mean:.2f} (the edit, on as many: {found.edit:.2f})"


def _kept(edits: Mapping[str, "Summary"], random: Mapping[str, "Summary"]) -> list[str]:
    lines = [
        f"{'IoU before and after':<24}"
        + "".join(f"{name:<26}{'random' if name in random else '':<9}" for name in edits)
    ]
    for label in next(iter(edits.values())).kept:
        line = f"{label:<24}"
        for name, one in edits.items():
            found = one.kept[label]
            cell = f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
            control = f"{random[name].kept[label].value:.3f}" if name in random else ""
            line += f"{cell:<26}{control:<9}"
        lines.append(line.rstrip())
    return lines


def _replacements(concept: str, edits: Mapping[str, "Summary"]) -> list[str]:
    lines = [f"{f'what was {concept} is now':<24}" + "".join(f"{name:<26}" for name in edits)]
    shares = {
        label: max(one.replaced_by[label].value for one in edits.values())
        for label in next(iter(edits.values())).replaced_by
    }
    for label in sorted(shares, key=lambda label: -shares[label]):
        if shares[label] < _SHARE_LISTED:
            continue
        line = f"{label + ' (left)' if label == concept else label:<24}"
        for one in edits.values():
            found = one.replaced_by[label]
            cell = f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"
            line += f"{cell:<26}"
        lines.append(line.rstrip())
    return lines
