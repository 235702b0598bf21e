"""An edit for people, in a line, and for programs, as JSON."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dissect.surgery import Intervention

__all__ = ["edit_text", "edit_values", "how_text"]


def edit_values(edit: "Intervention") -> dict[str, Any]:
    """An edit for JSON; the file `edit.json` holds it whole."""
    return {
        "rule": edit.units.rule,
        "n_selected": len(edit.units),
        "units": list(edit.units.indices),
        "gated": edit.gate is not None,
        "threshold": None if edit.gate is None else edit.threshold,
        "in_region": edit.region is not None,
        "strength": edit.strength,
        "unit_strengths": None if edit.unit_strengths is None else list(edit.unit_strengths),
        "replacement": edit.replacement if isinstance(edit.replacement, str) else "levels",
    }


def edit_text(edit: "Intervention") -> str:
    """An edit in a line."""
    parts = []
    for part in edit.parts:
        place = "everywhere" if part.gate is None else f"where a probe is above {part.threshold:g}"
        region = ", in a region" if part.region is not None else ""
        parts.append(f"{part.units.text}, {how_text(part)}, {place}{region}")
    return "; ".join(parts)


def how_text(edit: "Intervention") -> str:
    """What is done to the units."""
    if edit.unit_strengths is not None:
        return "each by its own strength"
    if not isinstance(edit.replacement, str):
        return "each set to its level" if edit.strength == 1 else f"moved {edit.strength:g} times"
    return "removed" if edit.strength == 1 else f"removed {edit.strength:g} times"
