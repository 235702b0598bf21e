"""The rules that choose units, and the ranking of units by their scores."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import SupportsFloat

from dissect._utils.errors import DissectError
from dissect.units.units import Units, check_count

__all__ = ["RULES", "Rule", "parse_rule", "rank_units"]

# Every rule by name, and whether it takes a count: `positive`, but `top:K`. A new rule is one more
# line here; the function that computes its scores passes them to `rank_units`. Those of the second
# half give directions rather than channels.
RULES: dict[str, bool] = {
    "positive": False,
    "top": True,
    "iou": True,
    "ace": True,
    "causal": True,
    "gradient": True,
    "auto": False,
    "lowrank": True,
    "probe": False,
    "leace": True,
    "inlp": True,
    "pca": True,
    "nmf": True,
}


@dataclass(frozen=True)
class Rule:
    """A way to choose units: a name of `RULES`, and how many units where the rule takes a count."""

    name: str
    count: int | None = None

    def __str__(self) -> str:
        return self.name if self.count is None else f"{self.name}:{self.count}"


def parse_rule(text: str) -> Rule:
    """The rule that `text` names: `positive`, or `top:K` with K at least 1.

    Raises:
        DissectError: an unknown rule, a count that is missing, not a whole number or below 1, or
            a count where the rule takes none.
    """
    name, colon, count = text.strip().partition(":")
    if name not in RULES:
        raise DissectError(f"unknown rule {text!r}: use {_known_rules()}")
    if not RULES[name]:
        if colon:
            raise DissectError(f"the rule {name!r} takes no count, yet {text!r} gives one")
        return Rule(name)
    # isdecimal alone lets digits of other scripts pass; nobody means those.
    if not (count.isascii() and count.isdecimal()) or len(count) > 9 or int(count) < 1:
        raise DissectError(
            f"the rule {text!r} needs a count of at least 1 after a colon, as in '{name}:12'"
        )
    return Rule(name, int(count))


def _known_rules() -> str:
    return " or ".join(f"'{name}:K'" if counted else f"'{name}'" for name, counted in RULES.items())


def rank_units(
    scores: Iterable[SupportsFloat],
    *,
    layer: str,
    rule: Rule,
    keep: Iterable[bool] | None = None,
    concept: str | None = None,
    model: str | None = None,
) -> Units:
    """Units of a layer in order of their scores, the highest first; ties by the lower index.

    Args:
        scores: one finite number for every unit of the layer.
        layer: its name.
        rule: its count, where it has one, is how many units there will be.
        keep: whether each unit may be chosen at all; all may without it.
        concept, model: handed on to the `Units`.

    Raises:
        DissectError: a count below 1 or above the number of units of the layer, or scores that
            are not finite.
    """
    values = [float(score) for score in scores]
    if not all(map(math.isfinite, values)):
        raise DissectError(f"the scores of units in {layer!r} must be finite numbers")
    if rule.count is not None:
        check_count(rule.count, len(values), f"{layer!r}")
    allowed = range(len(values))
    kept = (
        list(allowed)
        if keep is None
        else [unit for unit, ok in zip(allowed, keep, strict=True) if ok]
    )
    order = sorted(kept, key=lambda unit: -values[unit])[: rule.count]
    return Units(
        layer=layer,
        indices=tuple(order),
        total=len(values),
        scores=tuple(values[unit] for unit in order),
        concept=concept,
        rule=str(rule),
        model=model,
    )
