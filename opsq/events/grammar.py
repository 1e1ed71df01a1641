"""The grammar of the search line: text in, a frozen tree out. Pure; no clock, no store, no names.

    line   = either
    either = all { "OR" all }
    all    = one { [ "AND" ] one }
    one    = ( "-" | "NOT" ) one | "(" either ")" | field ":" value | word | "phrase"

Terms stand together by "and". What cannot be read is left out and named in ``faults`` with its place and what was
expected there, so that a typing error never shows everything. Source: Flower's search language, of which every line
keeps its meaning; negation, comparisons, ranges and time windows are added.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

import msgspec

from opsq.events import grammar_fields as fields
from opsq.events.grammar_fields import ALIASES, FIELDS, STATE_WORDS, Field
from opsq.events.grammar_tokens import Token, tokens_of
from opsq.wire import states

LONGEST_LINE: Final = 2_048
MOST_TOKENS: Final = 128
DEEPEST: Final = 8
NONE: Final = "none"


class Fault(msgspec.Struct, frozen=True):
    """What is wrong in a search line, at which letter (from 0), and what to write instead."""

    problem: str
    position: int
    length: int = 1

    def pointed(self, line: str) -> str:
        """Three lines for a terminal: the search line, a mark under the fault, what is wrong."""
        shown = line.replace("\t", " ").replace("\n", " ")
        mark = "^" * max(1, min(self.length, len(shown) - self.position))
        return f"{shown}\n{' ' * self.position}{mark}\ncolumn {self.position + 1}: {self.problem}"


class Every(msgspec.Struct, frozen=True):
    """All of the parts hold; without parts, everything does."""

    parts: tuple[Node, ...] = ()


class Either(msgspec.Struct, frozen=True):
    """One of the parts holds."""

    parts: tuple[Node, ...]


class Not(msgspec.Struct, frozen=True):
    """The part does not hold."""

    part: Node


class Named(msgspec.Struct, frozen=True):
    """A dimension has one of these values; each may be a pattern, and ``"none"`` means unknown."""

    field: str
    values: tuple[str, ...]


class Text(msgspec.Struct, frozen=True):
    """A piece of text occurs, in any case. field: where; empty looks into all of them, the name and the id too."""

    field: str
    text: str


class Pair(msgspec.Struct, frozen=True):
    """One keyword argument has this value, as its repr reads without quotes."""

    key: str
    value: str


class Number(msgspec.Struct, frozen=True):
    """A figure lies between two bounds. low_in, high_in: the bound itself counts."""

    field: str
    low: float | None = None
    high: float | None = None
    low_in: bool = True
    high_in: bool = True


class When(msgspec.Struct, frozen=True):
    """Placed in time from (or, until, before) a moment. ago_s: counted back from now; at: epoch seconds."""

    until: bool
    ago_s: float | None = None
    at: float | None = None


class Id(msgspec.Struct, frozen=True):
    """The id begins so (field ``id``), or that of the workflow's first task (``root``) or of the error (``fault``) is
    this.
    """

    field: str
    value: str


Node = Every | Either | Not | Named | Text | Pair | Number | When | Id
EVERYTHING: Final = Every()


class Query(msgspec.Struct, frozen=True):
    """A search line as understood. faults: what was left out of ``root``."""

    root: Node = EVERYTHING
    faults: tuple[Fault, ...] = ()


def parse(line: str) -> Query:
    """Read a search line. Never raises."""
    if len(line) > LONGEST_LINE:
        fault = Fault(f"a search line has at most {LONGEST_LINE:,} letters", LONGEST_LINE, len(line) - LONGEST_LINE)
        return Query(faults=(fault,))
    tokens = list(tokens_of(line))
    faults: list[Fault] = []
    if len(tokens) > MOST_TOKENS:
        first = tokens[MOST_TOKENS]
        faults.append(Fault(f"a search line has at most {MOST_TOKENS} terms", first.start, len(line) - first.start))
        del tokens[MOST_TOKENS:]
    parser = _Parser(tokens, faults, len(line))
    return Query(parser.whole(), tuple(sorted(faults, key=lambda fault: fault.position)))


# -- the tree --------------------------------------------------------------------------------------------------------


class _Parser:
    """Recursive descent over the tokens; every method leaves ``self.at`` behind what it read."""

    def __init__(self, tokens: list[Token], faults: list[Fault], length: int) -> None:
        self.tokens = tokens
        self.faults = faults
        self.length = length
        self.at = 0
        self.stopped = False

    def whole(self) -> Node:
        parts = [self.either(0)]
        while (token := self.peek()) is not None:
            # Only a closing parenthesis without an opening one ends ``either`` early.
            self.fault(token, "this ) closes nothing; take it away, or quote it to search for it")
            self.at += 1
            parts.append(self.either(0))
        return _every(parts)

    def peek(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def fault(self, token: Token, problem: str) -> None:
        self.faults.append(Fault(problem, token.start, token.end - token.start))

    def either(self, depth: int) -> Node:
        parts = [self.every(depth)]
        while (token := self.peek()) is not None and token.kind == "or":
            self.at += 1
            after = self.peek()
            if after is None or after.kind in (")", "or"):
                self.fault(token, "OR needs a term on both sides; a word or a field:value was expected after it")
                continue
            if parts == [EVERYTHING] and len(parts) == 1:
                self.fault(token, "OR needs a term on both sides; a word or a field:value was expected before it")
            parts.append(self.every(depth))
        known = [part for part in parts if part != EVERYTHING]
        if not known:
            return EVERYTHING
        return known[0] if len(known) == 1 else Either(tuple(known))

    def every(self, depth: int) -> Node:
        parts: list[Node] = []
        while (token := self.peek()) is not None and token.kind not in (")", "or"):
            if token.kind == "and":
                self.at += 1
                after = self.peek()
                if not parts or after is None or after.kind in (")", "or", "and"):
                    self.fault(token, "AND needs a term on both sides; a word or a field:value was expected")
                continue
            parts.append(self.one(depth))
        return _every(parts)

    def one(self, depth: int) -> Node:
        token = self.tokens[self.at]
        self.at += 1
        if token.kind in ("-", "not"):
            after = self.peek()
            if after is None or after.kind not in ("term", "(", "-", "not"):
                self.fault(token, "a term was expected after this; write -word or -field:value")
                return EVERYTHING
            if depth >= DEEPEST:
                return self.too_deep(token)
            part = self.one(depth + 1)
            return EVERYTHING if part == EVERYTHING else Not(part)
        if token.kind == "(":
            return self.too_deep(token) if depth >= DEEPEST else self.group(token, depth)
        return self.term(token)

    def group(self, token: Token, depth: int) -> Node:
        part = self.either(depth + 1)
        if (after := self.peek()) is not None and after.kind == ")":
            self.at += 1
        elif not self.stopped:
            self.fault(token, "this ( is not closed; ) was expected")
        return part

    def too_deep(self, token: Token) -> Node:
        self.fault(token, f"terms may be nested {DEEPEST} deep")
        self.at = len(self.tokens)
        self.stopped = True
        return EVERYTHING

    def term(self, token: Token) -> Node:
        if not token.field:
            if not token.value:
                return EVERYTHING
            return Text("", token.value.lower())
        name = token.field.lower()
        field = FIELDS.get(ALIASES.get(name, name))
        if field is None:
            near = get_close_matches(name, [*FIELDS, *ALIASES], 1)
            hint = f"did you mean {near[0]}:" if near else f"there are {', '.join(FIELDS)}"
            self.fault(token, f"{token.field}: is not a field; {hint}")
            return EVERYTHING
        if not token.value:
            self.fault(token, f"{token.field}: needs a value, such as {field.example}")
            return EVERYTHING
        found = _READERS[field.kind](field, token)
        if isinstance(found, str):
            self.fault(token, found)
            return EVERYTHING
        return found


def _every(parts: list[Node]) -> Node:
    known = [part for part in parts if part != EVERYTHING]
    if len(known) == 1:
        return known[0]
    return Every(tuple(known))


# -- values: each reader gives a node, or what is wrong --------------------------------------------------------------


def _name(field: Field, token: Token) -> Node | str:
    values = (token.value,) if token.quoted else tuple(part for part in token.value.split(",") if part)
    return Named(field.name, values) if values else f"{token.field}: needs a value, such as {field.example}"


def _state(field: Field, token: Token) -> Node | str:
    found: list[str] = []
    for word in filter(None, token.value.split(",")):
        if word.lower() in STATE_WORDS:
            found += STATE_WORDS[word.lower()]
        elif word.upper() in states.ALL_STATES:
            found.append(word.upper())
        else:
            near = get_close_matches(word.lower(), [*STATE_WORDS, *map(str.lower, states.ALL_STATES)], 1)
            hint = f"did you mean {near[0]}" if near else f"there are {', '.join(STATE_WORDS)}"
            return f"{word} is not a state; {hint}"
    return Named("state", tuple(found)) if found else f"state: needs a value, such as {field.example}"


def _text(field: Field, token: Token) -> Node | str:
    key, separator, value = token.value.partition("=")
    if field.name == "kwargs" and separator and key.isidentifier() and not token.quoted:
        return Pair(key, value)
    return Text(field.name, token.value.lower())


def _id(field: Field, token: Token) -> Node | str:
    return Id(field.name, token.value)


def _when(field: Field, token: Token) -> Node | str:
    until = field.kind == fields.UNTIL
    span = fields.span_s(token.value)
    if span is not None:
        return When(until, ago_s=span)
    at = fields.moment(token.value)
    if at is not None:
        return When(until, at=at)
    return f"{token.value} is not a time; write {token.field}:30min, {token.field}:2h or {token.field}:7d"


_COMPARISONS: Final = (">=", "<=", ">", "<", "=")


def _number(field: Field, token: Token) -> Node | str:
    text = token.value
    low, separator, high = text.partition("..")
    if separator:
        return _range(field, token, low, high)
    sign = next((sign for sign in _COMPARISONS if text.startswith(sign)), "=")
    amount = fields.quantity(field.kind, text.removeprefix(sign))
    if amount is None:
        return _no_number(field, token, text.removeprefix(sign))
    if sign == "=":
        return Number(field.name, amount, amount)
    if sign[0] == ">":
        return Number(field.name, amount, None, low_in=sign == ">=")
    return Number(field.name, None, amount, high_in=sign == "<=")


def _range(field: Field, token: Token, low: str, high: str) -> Node | str:
    bounds: list[float | None] = []
    for text in (low, high):
        amount = fields.quantity(field.kind, text) if text else None
        if text and amount is None:
            return _no_number(field, token, text)
        bounds.append(amount)
    least, most = bounds
    if least is None and most is None:
        return f"{token.field}: needs a bound beside the two points, such as {field.example}"
    if least is not None and most is not None and least > most:
        return f"{low} is more than {high}; write {token.field}:{high}..{low}"
    return Number(field.name, least, most)


def _no_number(field: Field, token: Token, text: str) -> str:
    return f"{text or 'nothing'} is not {field.expected}; {field.expected} was expected, such as {field.example}"


_READERS: Final = {
    fields.NAME: _name,
    fields.STATE: _state,
    fields.TEXT: _text,
    fields.ID: _id,
    fields.SINCE: _when,
    fields.UNTIL: _when,
    fields.NUMBER: _number,
    fields.COUNT: _number,
    fields.BYTES: _number,
}
