"""Values and names that people wrote: numbers that are numbers, and names near a wrong one."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

__all__ = ["finite", "near_names"]

_NAMES_SHOWN = 8


def near_names(name: str, known: Iterable[str]) -> str:
    """The known names most like `name`, comma-separated; all of them where they are few."""
    names = sorted(set(known))
    if len(names) <= _NAMES_SHOWN:
        near = names
    else:
        by_folded = {other.casefold(): other for other in names}
        folded = difflib.get_close_matches(name.casefold(), by_folded, n=_NAMES_SHOWN, cutoff=0.5)
        near = [by_folded[other] for other in folded] or names[:_NAMES_SHOWN]
    return ", ".join(repr(other) for other in near) or "none"


def finite(value: Any) -> float | None:
    """The value as a float where it is a finite number (true and false are none), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
