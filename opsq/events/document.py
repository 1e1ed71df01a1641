"""What a search can look at in a task: its texts and figures. One reading for the index, for the check and for pages.

Texts are lower case. The index may say "perhaps" too often, never too seldom: a row is shown only after ``matches``
has looked at its document, and the index is built from the same document.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from opsq.events import evidence as ev
from opsq.events.fields import ATTEMPT_STEP, FIELDS
from opsq.events.grammar import NONE, Either, Every, Id, Named, Node, Not, Number, Pair, Text, When
from opsq.events.life import OUTCOMES, Summary, summarise
from opsq.events.records import time_key
from opsq.events.rows import DIMENSIONS, TaskRow
from opsq.wire import states

TEXTS: Final = ("args", "kwargs", "result", "exception")
FIGURES: Final = ("runtime", "wait", "total", "retries", "memory")
#: A word has to be this long to be looked up as the beginning of an id.
ID_LETTERS: Final = 4
_UUID: Final = re.compile(r"[0-9a-fA-F]{32}")
_ARGS, _KWARGS, _RESULT, _EXCEPTION = (FIELDS[name] for name in TEXTS)
_RSS: Final = FIELDS["rss_bytes"]
_BROKER, _PREFETCH, _START, _RUN, _, _TOTAL = range(6)


class Document(NamedTuple):
    """One task as searched. texts by ``TEXTS``; figures by ``FIGURES``, in seconds, counts or bytes.

    fault: the error group it failed by, ``None`` when it did not fail or nothing tells why.
    """

    texts: tuple[str, ...]
    figures: tuple[float | None, ...]
    root: str | None
    fault: str | None = None


def read(row: TaskRow) -> Document:
    """Read a row's evidence. Raises msgspec.MsgspecError when the bytes are something else."""
    known = ev.decode(row.evidence)
    registers = ev.registers(known)
    ends: dict[int, list[str]] = {_RESULT: [], _EXCEPTION: []}
    for mark in known.marks:
        for code, found in ends.items():
            if (text := mark[5].get(code)) is not None:
                found.append(text)
    summary = summarise(known)
    return Document(
        (
            str(registers.get(_ARGS) or "").lower(),
            str(registers.get(_KWARGS) or "").lower(),
            "\n".join(ends[_RESULT]).lower(),
            "\n".join(ends[_EXCEPTION]).lower(),
        ),
        (*_lengths(summary.runs[-1].segments if summary.runs else None), float(ev.retries(known)), _memory(registers)),
        summary.root or row.id,
        _fault(row, summary),
    )


def _fault(row: TaskRow, summary: Summary) -> str | None:
    if row.state != states.FAILURE:
        return None
    return next((run.fault for run in reversed(summary.runs) if OUTCOMES[run.outcome] == "failed"), None)


def _lengths(segments: tuple[float | None, ...] | None) -> tuple[float | None, float | None, float | None]:
    if segments is None:
        return None, None, None
    waits = [length for length in (segments[_BROKER], segments[_PREFETCH], segments[_START]) if length is not None]
    known = segments[_BROKER] is not None and segments[_PREFETCH] is not None
    return segments[_RUN], sum(waits) if known else None, segments[_TOTAL]


def _memory(registers: ev.Fields) -> float | None:
    found = [
        value for code, value in registers.items() if isinstance(code, int) and code % ATTEMPT_STEP == _RSS and value
    ]
    return float(max(found)) if found else None


class Looked:
    """A row under a search: its document is read when a term first needs it."""

    __slots__ = ("_document", "_lowered", "row")

    def __init__(self, row: TaskRow) -> None:
        self.row = row
        self._document: Document | None = None
        self._lowered: bytes | None = None

    @property
    def document(self) -> Document:
        """The row's document."""
        if self._document is None:
            self._document = read(self.row)
        return self._document

    def may_hold(self, text: str) -> bool:
        """Rule most rows out by their bytes alone: false means that no text holds it."""
        if not text.isascii():
            return True  # bytes are lowered for ASCII letters only
        if self._lowered is None:
            self._lowered = self.row.evidence.lower()
        return text.encode() in self._lowered


def matches(node: Node, looked: Looked, now: float) -> bool:
    """Does the row fit? now: epoch seconds, for times counted back."""
    row = looked.row
    match node:
        case Every(parts):
            return all(matches(part, looked, now) for part in parts)
        case Either(parts):
            return any(matches(part, looked, now) for part in parts)
        case Not(part):
            return not matches(part, looked, now)
        case Named(field, values):
            return any(fits(field, value, getattr(row, field)) for value in values)
        case Text(field, text):
            return _holds(field, text, looked)
        case Pair(key, value):
            return looked.may_hold(key.lower()) and has_pair(looked.document.texts[1], key.lower(), value.lower())
        case When(until):
            edge = edge_of(node, now)
            return row.key < edge if until else row.key >= edge
        case Id("id", value):
            return row.id.startswith(value)
        case Id("fault", value):
            return row.state == states.FAILURE and looked.document.fault == value
        case Id(_, value):
            return looked.document.root == value
        case Number():
            return within(node, looked.document.figures[FIGURES.index(node.field)])


def edge_of(when: When, now: float) -> int:
    """The row key at which a time window begins or ends."""
    return time_key(when.at if when.at is not None else now - (when.ago_s or 0.0))


def within(number: Number, value: float | None) -> bool:
    """Does a figure lie between the bounds? What is not known does not."""
    if value is None:
        return False
    low, high = number.low, number.high
    if low is not None and low == high:
        # ``runtime:5s`` means about five seconds: equality of measured times would never hold.
        return value == low if number.field == "retries" else abs(value - low) <= low * 0.05
    return (low is None or value > low or (number.low_in and value == low)) and (
        high is None or value < high or (number.high_in and value == high)
    )


def fits(field: str, pattern: str, value: str | None) -> bool:
    """Does a name fit a pattern? A worker may be named without what stands before its ``@``."""
    if value is None or pattern == NONE:
        return value is None and pattern == NONE
    names = (value, value.partition("@")[2]) if field == "worker" and "@" not in pattern else (value,)
    if "*" in pattern or "?" in pattern:
        return any(fnmatchcase(name, pattern) for name in names)
    return pattern in names


def _holds(field: str, text: str, looked: Looked) -> bool:
    if field:
        return looked.may_hold(text) and text in looked.document.texts[TEXTS.index(field)]
    row = looked.row
    if any((name := getattr(row, dimension)) is not None and text in name.lower() for dimension in DIMENSIONS):
        return True
    if id_holds(row.id, text):
        return True
    return looked.may_hold(text) and any(text in one for one in looked.document.texts)


def id_holds(id: str, text: str) -> bool:
    """Is an id found by this text? Ids made by machines by how they begin, others anywhere."""
    return (len(text) >= ID_LETTERS and id.lower().startswith(text)) or (not is_uuid(id) and text in id.lower())


def is_uuid(id: str) -> bool:
    """Is this an id of the usual form, 32 hexadecimal digits?"""
    return _UUID.fullmatch(id.replace("-", "")) is not None


def has_pair(kwargs: str, key: str, value: str) -> bool:
    """Does the repr of keyword arguments name this one with this value, quoted or not? All lower case."""
    start = kwargs.find(f"'{key}':")
    while start >= 0:
        rest = kwargs[start + len(key) + 3 :].lstrip()
        for quote in ("", "'", '"'):
            if rest.startswith(quote + value + quote) and rest[len(value) + 2 * len(quote) :][:1] in ("", ",", "}"):
                return True
        start = kwargs.find(f"'{key}':", start + 1)
    return False
