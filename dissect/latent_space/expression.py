"""Sums of concepts as a user writes them: "smiling woman - neutral woman + neutral man"."""

import re
from dataclasses import dataclass

from dissect._utils.errors import DissectError

__all__ = ["Term", "parse_expression"]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)(?=\s*\*)|(?P<sign>[-+])|(?P<mark>[*()])"
    r"|(?P<name>[^\W\d_](?:[\w']|[ \t]+(?=[\w'])|(?<=\w)-(?=\w))*))"
)
_DEEPEST = 50


@dataclass(frozen=True)
class Term:
    """One concept of a sum and what it is multiplied by."""

    concept: str
    factor: float


def parse_expression(text: str) -> tuple[Term, ...]:
    """The terms of a sum, in the order in which their concepts are first named.

        parse_expression("glasses short - plain short + plain long")

    A concept's name is words of letters, digits and hyphens ("red-haired man") and begins with a
    letter; a minus stands apart from words. Concepts are joined by + and -, may be multiplied by a
    number ("0.5 * smile"), and grouped in parentheses. A concept named twice is one term.

    Raises:
        DissectError: a malformed sum, with `[here]` before the place, or one that cancels.
    """
    factors: dict[str, float] = {}
    for concept, factor in _Parser(text).whole():
        factors[concept] = factors.get(concept, 0.0) + factor
    terms = tuple(Term(concept, factor) for concept, factor in factors.items() if factor)
    if not terms:
        raise DissectError(f"the expression {text!r} cancels to nothing")
    return terms


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokens()
        self.at = 0
        self.depth = 0

    def whole(self) -> list[tuple[str, float]]:
        found = self.sum()
        if self.at < len(self.tokens):
            raise self.error(self.tokens[self.at].place, "expected + or -")
        return found

    def sum(self) -> list[tuple[str, float]]:
        found = self.product(-1.0 if self.take("-") else 1.0)
        while self.next("+") or self.next("-"):
            sign = -1.0 if self.tokens[self.at].text == "-" else 1.0
            self.at += 1
            found += self.product(sign)
        return found

    def product(self, factor: float) -> list[tuple[str, float]]:
        token = self.current()
        if token is not None and token.kind == "number":
            self.at += 1
            factor *= float(token.text)
            self.take("*")
        if self.take("("):
            self.depth += 1
            if self.depth > _DEEPEST:
                raise self.error(self.place(), "too many parentheses inside one another")
            inner = self.sum()
            if not self.take(")"):
                raise self.error(self.place(), "expected ) or + or -")
            self.depth -= 1
            return [(concept, factor * each) for concept, each in inner]
        token = self.current()
        if token is None or token.kind != "name":
            raise self.error(self.place(), "expected a concept")
        self.at += 1
        return [(" ".join(token.text.split()), factor)]

    def current(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def next(self, text: str) -> bool:
        token = self.current()
        return token is not None and token.text == text and token.kind != "name"

    def take(self, text: str) -> bool:
        found = self.next(text)
        self.at += found
        return found

    def place(self) -> int:
        token = self.current()
        return len(self.text) if token is None else token.place

    def error(self, place: int, wanted: str) -> DissectError:
        marked = f"{self.text[:place]}[here]{self.text[place:]}"
        return DissectError(
            f"cannot read the expression at character {place + 1}: {marked!r}; {wanted}"
        )

    def _tokens(self) -> list[_Token]:
        found, place = [], 0
        while self.text[place:].strip():
            match = _TOKEN.match(self.text, place)
            if match is None or match.lastgroup is None:
                place += len(self.text[place:]) - len(self.text[place:].lstrip())
                raise self.error(
                    place, "expected a concept, a number and *, + or -, or parentheses"
                )
            kind = match.lastgroup
            found.append(_Token(kind, match.group(kind), match.start(kind)))
            place = match.end()
        return found
