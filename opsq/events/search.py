"""The search line of the task list, read into a filter: ``state:failed type:shop.* -queue:mail since:2h timeout``.

First form of the grammar. ``key:value`` with keys state, type, queue, worker, id, since, until; alternatives after a
comma; a leading minus excludes; ``*`` and ``?`` in type, queue and worker; quotes around blanks. Every other word has
to occur in the arguments, result, exception, name or id. A fault says at which letter it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from opsq.events.records import TaskItem, time_key
from opsq.events.store import DIMENSIONS, Choice, TaskRow, Where
from opsq.wire import states

#: What people write for a state, beside its own name in any case.
STATE_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "waiting": (states.PENDING,),
    "prefetched": (states.RECEIVED,),
    "running": (states.STARTED,),
    "ok": (states.SUCCESS,),
    "succeeded": (states.SUCCESS,),
    "failed": (states.FAILURE,),
    "retry": (states.RETRY,),
    "revoked": (states.REVOKED,),
    "rejected": (states.REJECTED,),
    "ignored": (states.IGNORED,),
    "done": (states.SUCCESS, states.FAILURE, states.REVOKED, states.REJECTED, states.IGNORED),
    "open": (states.PENDING, states.RECEIVED, states.STARTED, states.RETRY),
}
KEYS: Final = (*DIMENSIONS, "id", "since", "until")
NONE: Final = "none"
_VALUE: Final = r'"(?:[^"\\]|\\.)*"?'
_TOKEN: Final = re.compile(rf"(-?)(?:([A-Za-z_]+):({_VALUE}|\S*)|({_VALUE}|\S+))")
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)")
_UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
MOST_TERMS: Final = 50


class Fault(msgspec.Struct, frozen=True):
    """What is wrong in a search line, at which letter (from 0), and what to write instead."""

    problem: str
    position: int
    length: int = 1


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A filter of tasks. wanted and unwanted: patterns by dimension; ``"none"`` means unknown.

    since_at and until_at: epoch seconds. text and without: words, lower case. faults: what was left out.
    """

    wanted: Mapping[str, tuple[str, ...]] = {}
    unwanted: Mapping[str, tuple[str, ...]] = {}
    id: str = ""
    since_at: float | None = None
    until_at: float | None = None
    text: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def has_text(self) -> bool:
        """Must rows be read to know whether they fit?"""
        return bool(self.text or self.without)


EVERYTHING: Final = Search()


def of(
    *, state: str | None = None, type: str | None = None, queue: str | None = None, worker: str | None = None,
    id: str = "", text: str = "",
) -> Search:  # fmt: skip
    """A filter from single values, each a pattern or ``None`` for all."""
    given = {"state": state, "type": type, "queue": queue, "worker": worker}
    wanted = {name: _values(name, value) for name, value in given.items() if value}
    return Search(wanted=wanted, id=id, text=tuple(text.lower().split()))


def parse(line: str, now: float) -> Search:
    """Read a search line; what cannot be read is left out and named in ``faults``. now: epoch seconds."""
    wanted: dict[str, tuple[str, ...]] = {}
    unwanted: dict[str, tuple[str, ...]] = {}
    text: dict[bool, list[str]] = {True: [], False: []}
    single: dict[str, str] = {}
    times: dict[str, float | None] = {}
    faults: list[Fault] = []
    for match in list(_TOKEN.finditer(line))[:MOST_TERMS]:
        minus, key, value = match[1], (match[2] or "").lower(), _unquoted(match[3] or match[4] or "")
        problem = _problem(key, value) if key else ""
        if problem:
            faults.append(Fault(problem, match.start(), len(match[0])))
        elif not key:
            text[bool(minus)].append(value.lower())
        elif key in DIMENSIONS:
            target = unwanted if minus else wanted
            target[key] = (*target.get(key, ()), *_values(key, value))
        elif key == "id":
            single["id"] = value
        else:
            times[key] = now - _span_s(value)
    return Search(
        wanted=wanted,
        unwanted=unwanted,
        id=single.get("id", ""),
        since_at=times.get("since"),
        until_at=times.get("until"),
        text=tuple(text[False]),
        without=tuple(text[True]),
        faults=tuple(faults),
    )


def _problem(key: str, value: str) -> str:
    if key not in KEYS:
        near = get_close_matches(key, KEYS, 1)
        hint = f"did you mean {near[0]}:" if near else f"there are {', '.join(KEYS)}"
        return f"{key}: is not a field; {hint}"
    if not value:
        return f"{key}: needs a value, such as {_EXAMPLES[key]}"
    if key == "state":
        for word in value.split(","):
            if word.lower() not in STATE_WORDS and word.upper() not in states.ALL_STATES:
                near = get_close_matches(word.lower(), [*STATE_WORDS, *map(str.lower, states.ALL_STATES)], 1)
                hint = f"did you mean {near[0]}" if near else f"there are {', '.join(STATE_WORDS)}"
                return f"{word} is not a state; {hint}"
    if key in ("since", "until") and not _SPAN.fullmatch(value):
        return f"{value} is not a time; write {key}:30min, {key}:2h or {key}:7d"
    return ""


_EXAMPLES: Final = {
    "state": "state:failed",
    "type": "type:shop.*",
    "queue": "queue:mail",
    "worker": "worker:opsq@host",
    "id": "id:7f3ac91e",
    "since": "since:2h",
    "until": "until:1d",
}


def _values(name: str, value: str) -> tuple[str, ...]:
    words = tuple(word for word in value.split(",") if word)
    if name != "state":
        return words
    return tuple(state for word in words for state in STATE_WORDS.get(word.lower(), (word.upper(),)))


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    return re.sub(r"\\(.)", r"\1", value[1:].removesuffix('"')) if len(value) > 1 else ""


def _span_s(value: str) -> float:
    found = _SPAN.fullmatch(value)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0


def where(
    search: Search,
    known: Mapping[str, Iterable[str | None]],
    before: int | None = None,
    order: Iterable[str] = DIMENSIONS,
) -> Where:
    """The rows to read: patterns become the names that are known now.

    before: a page's cursor. order: dimensions, the one that should lead the look-up first.
    """
    choices: dict[str, Choice] = {}
    for name in order:
        include, exclude = search.wanted.get(name), search.unwanted.get(name, ())
        if include is not None or exclude:
            names = set(known.get(name, ()))
            choices[name] = Choice(
                None if include is None else _matching(include, names),
                _matching(exclude, names) if exclude else frozenset(),
            )
    limits = [
        key for key in (before, None if search.until_at is None else time_key(search.until_at)) if key is not None
    ]
    return Where(
        choices,
        None if search.since_at is None else time_key(search.since_at),
        min(limits) if limits else None,
        search.id,
    )


def _matching(patterns: Iterable[str], names: set[str | None]) -> frozenset[str | None]:
    found: set[str | None] = set()
    for pattern in patterns:
        if pattern == NONE:
            found.add(None)
        elif "*" in pattern or "?" in pattern:
            found.update(name for name in names if name is not None and fnmatchcase(name, pattern))
        else:
            found.add(pattern)
    return frozenset(found)


def may_match(search: Search, row: TaskRow) -> bool:
    """Rule out most rows by their bytes alone, without reading them: false means certainly not."""
    written = row.evidence.lower()  # ASCII letters only, so other words are left to ``matches``
    return all(not word.isascii() or word.encode() in written or word in row.id.lower() for word in search.text)


def matches(search: Search, item: TaskItem) -> bool:
    """Does a row have all the words and none of the excluded ones?"""
    parts = (item.id, item.type, item.args, item.kwargs, item.result, item.exception)
    written = "\n".join(part for part in parts if part).lower()
    return all(word in written for word in search.text) and not any(word in written for word in search.without)
