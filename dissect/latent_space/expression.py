"""Sums of concepts as a user writes them: "smiling woman - neutral woman + neutral man"."""

import re
from dataclasses import dataclass

from dissect._utils.errors import DissectError

__all__ = ["Term", "parse_expression"]

# A sign, a factor, and a concept or an opening parenthesis; each may be absent.
_TERM = re.compile(
    r"\s*(?P<sign>[-+]?)\s*(?:(?P<factor>\d+(?:\.\d+)?)\s*\*\s*)?"
    r"(?P<concept>\(|[^\W\d_](?:[\w']|[ \t]+(?=[\w'])|(?<=\w)-(?=\w))*)?"
)
_CLOSING = re.compile(r"(?:\s*\))*\s*")
_MAX_DEPTH = 50


@dataclass(frozen=True)
class Term:
    """One concept of a sum, and its factor."""

    concept: str
    factor: float


def parse_expression(text: str) -> tuple[Term, ...]:
    """The terms of a sum, in the order in which their concepts first appear.

    The name of a concept consists of letters, digits and hyphens, may have several words
    ("red-haired man"), and begins with a letter. Concepts are joined by + and -, may have a
    factor ("0.5 * smile"), and are grouped by parentheses. A concept that appears twice is one
    term.

    Raises:
        DissectError: a malformed sum, with `[here]` before the mistake, or one that cancels.

    >>> parse_expression("smile - 0.5 * neutral face")
    (Term(concept='smile', factor=1.0), Term(concept='neutral face', factor=-0.5))
    """

    def mistake(place: int, expected: str) -> DissectError:
        place += len(text[place:]) - len(text[place:].lstrip())
        marked = f"{text[:place]}[here]{text[place:]}"
        return DissectError(
            f"cannot read the expression at character {place + 1}: {marked!r}; {expected}"
        )

    factors: dict[str, float] = {}
    outer = [1.0]  # the factor of each open parenthesis
    place, begins = 0, True
    while begins or place < len(text):
        match = _TERM.match(text, place)
        if match is None or not (begins or match["sign"]):
            raise mistake(place, "expected + or -")
        if match["concept"] is None:
            raise mistake(match.end(), "expected a concept")
        factor = outer[-1] * float(match["factor"] or 1) * (-1 if match["sign"] == "-" else 1)
        place = match.end()
        begins = match["concept"] == "("
        if begins:
            outer.append(factor)
            if len(outer) > _MAX_DEPTH:
                raise mistake(place, "too many parentheses inside one another")
            continue
        concept = " ".join(match["concept"].split())
        factors[concept] = factors.get(concept, 0.0) + factor
        closing = _CLOSING.match(text, place)
        depth = closing.group().count(")") if closing else 0
        if depth >= len(outer):
            raise mistake(text.index(")", place), "expected + or -")
        outer = outer[: len(outer) - depth]
        place = closing.end() if closing else place
    if len(outer) > 1:
        raise mistake(len(text), "expected )")
    terms = tuple(Term(concept, factor) for concept, factor in factors.items() if factor)
    if not terms:
        raise DissectError(f"the expression {text!r} cancels to nothing")
    return terms
