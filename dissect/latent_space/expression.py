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

    def mistake(position: int, expected: str) -> DissectError:
        position += len(text[position:]) - len(text[position:].lstrip())
        marked = f"{text[:position]}[here]{text[position:]}"
        return DissectError(
            f"cannot read the expression at character {position + 1}: {marked!r}; {expected}"
        )

    factors: dict[str, float] = {}
    outer = [1.0]  # the factor of each open parenthesis
    position, begins = 0, True
    while begins or position < len(text):
        match = _TERM.match(text, position)
        if match is None or not (begins or match["sign"]):
            raise mistake(position, "expected + or -")
        if match["concept"] is None:
            raise mistake(match.end(), "expected a concept")
        factor = outer[-1] * float(match["factor"] or 1) * (-1 if match["sign"] == "-" else 1)
        position = match.end()
        begins = match["concept"] == "("
        if begins:
            outer.append(factor)
            if len(outer) > _MAX_DEPTH:
                raise mistake(position, "too many parentheses inside one another")
            continue
        concept = " ".join(match["concept"].split())
        factors[concept] = factors.get(concept, 0.0) + factor
        closing = _CLOSING.match(text, position)
        depth = closing.group().count(")") if closing else 0
        if depth >= len(outer):
            raise mistake(text.index(")", position), "expected + or -")
        outer = outer[: len(outer) - depth]
        position = closing.end() if closing else position
    if len(outer) > 1:
        raise mistake(len(text), "expected )")
    terms = tuple(Term(concept, factor) for concept, factor in factors.items() if factor)
    if not terms:
        raise DissectError(f"the expression {text!r} cancels to nothing")
    return terms
