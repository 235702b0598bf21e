"""`dissect rules` as text: a table of the rules, and what auto saves against each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dissect.cli.searched import search_text

if TYPE_CHECKING:
    from dissect.effect.curves import Advantage, RuleCurve
    from dissect.selection.search import SearchResult

__all__ = ["rules_text"]

_WANTED = 0.98


def rules_text(
    curves: "Sequence[RuleCurve]",
    found: "Sequence[Advantage]",
    results: "Mapping[str, SearchResult]",
) -> str:
    """Every rule where it first removes 98%, or removes most; and what auto saves."""
    concept = curves[0].effects[0].concept
    shown = curves[0].effects[0].prevalence_before_after()[0]
    lines = [
        f"{len(curves[0].effects[0])} fresh latents; {shown:.1%} of their images show a {concept}",
        "auto:",
        *(f"  {search_text(result)}" for result in results.values()),
        "",
        f"the fewest units of each rule that remove {_WANTED:.0%} of the {concept} pixels, or the "
        "number that removes most; * is the number that the rule takes by itself",
        f"{'rule':<22}{'units':<8}{f'{concept} removed (95%)':<28}{'shown after':<13}"
        f"{'kept, mean IoU':<26}change outside",
    ]
    for curve in curves:
        lines.append(_row(curve, curve.first_removing(_WANTED), ""))
        if curve.own is not None:
            lines.append(_row(curve, curve.sizes.index(curve.own), "*"))
    lines += [
        "",
        "what auto saves against each rule, at equal removal: change outside (95%)",
        f"{'rule':<22}" + "".join(f"{level:<28.0%}" for level in _levels(found)),
    ]
    for where, rule in dict.fromkeys((one.where, one.rule) for one in found):
        line = f"{f'{rule}, {where}':<22}"
        for one in found:
            if (one.where, one.rule) == (where, rule):
                line += f"{_spared(one):<28}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _row(curve: "RuleCurve", place: int | None, mark: str) -> str:
    from dissect.effect.summary import summarize

    if place is None:
        place = max(range(len(curve.sizes)), key=lambda k: curve.effects[k].removal())
    one = summarize([curve.effects[place]], resamples=400)
    low, high = one.removed.interval
    removed = f"{one.removed.value:.1%} ({low:.1%} to {high:.1%})"
    kept = f"{one.kept_mean.value:.3f} ({one.kept_mean.low:.3f} to {one.kept_mean.high:.3f})"
    change = one.outside_change
    return (
        f"{f'{curve.rule}, {curve.where}':<22}{f'{curve.sizes[place]}{mark}':<8}{removed:<28}"
        f"{f'{one.shown_after.value:.1%}':<13}{kept:<26}"
        f"{change.value:.4f} ({change.low:.4f} to {change.high:.4f})"
    )


def _levels(found: "Sequence[Advantage]") -> list[float]:
    return sorted({one.level for one in found})


def _spared(one: "Advantage") -> str:
    if one.less is None:
        return "never removes that"
    return f"{one.less.value:.4f} ({one.less.low:.4f} to {one.less.high:.4f})"
