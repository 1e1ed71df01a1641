"""What a task was given and what it said: arguments as a tree, log lines, progress. Bounded, display only; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from opsq.web import words

MAX_LEAVES: Final = 400
MAX_DEPTH: Final = 8
MAX_TEXT: Final = 500
MAX_LINES: Final = 500
TAKEN_OUT: Final = frozenset({"[redacted]", "***", "hidden"})
_LEVELS: Final[Mapping[str, str]] = {"ERROR": "error", "CRITICAL": "error", "WARNING": "warning"}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value of the tree, or a branch. text: of a leaf, else what it is. hidden: taken out. children: of a branch."""

    key: str
    text: str
    hidden: bool = False
    children: tuple[Leaf, ...] = ()


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that the task logged. css: how loud."""

    at: float
    level: str
    css: str
    logger: str
    text: str


@dataclass(frozen=True, slots=True)
class Log:
    """What the task logged. left_out: lines beyond what is kept or shown. hidden: the reader may not see them."""

    lines: tuple[LogLine, ...] = ()
    left_out: int = 0
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the task said it is. percent: None when the total is not known."""

    text: str
    percent: int | None
    at: float


def tree(payload: str | None) -> tuple[Leaf, ...]:
    """Turn a payload into a tree: positional arguments by number, the others by name; nothing when unreadable."""
    if payload is None:
        return ()
    try:
        read = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return ()
    if not isinstance(read, dict):
        return ()
    args, kwargs = read.get("args"), read.get("kwargs")
    numbered = ((str(i), value) for i, value in enumerate(args if isinstance(args, list) else ()))
    return leaves([*numbered, *(kwargs if isinstance(kwargs, dict) else {}).items()])


def leaves(pairs: Iterable[tuple[str, Any]]) -> tuple[Leaf, ...]:
    """Turn named values into a tree, as much of them as a page can bear."""
    budget = [MAX_LEAVES]
    return tuple(_leaf(str(key), value, 0, budget) for key, value in pairs)


def _leaf(key: str, value: Any, depth: int, budget: list[int]) -> Leaf:
    budget[0] -= 1
    key = key[:MAX_TEXT]
    if isinstance(value, dict | list):
        pairs: Iterable[tuple[str, Any]] = (
            value.items() if isinstance(value, dict) else ((str(i), each) for i, each in enumerate(value))
        )
        count = words.plural(len(value), "key" if isinstance(value, dict) else "item")
        if depth >= MAX_DEPTH or budget[0] <= 0:
            return Leaf(key, f"{count}, not shown")
        children = []
        for name, each in pairs:
            if budget[0] <= 0:
                children.append(Leaf("…", "more is not shown"))
                break
            children.append(_leaf(str(name), each, depth + 1, budget))
        return Leaf(key, count, children=tuple(children))
    if isinstance(value, str):
        if value in TAKEN_OUT:
            return Leaf(key, "taken out", hidden=True)
        return Leaf(key, '"' + value[:MAX_TEXT] + ("…" if len(value) > MAX_TEXT else '"'))
    return Leaf(key, "none" if value is None else str(value).lower())


def log_of(others: Sequence[Mapping[str, Any]]) -> Log:
    """Collect what the task logged, in order of time; lines that are told twice stand once."""
    lines: dict[tuple[int, int], LogLine] = {}
    left_out, hidden = 0, False
    for told in others:
        if told.get("kind") != "task-log":
            continue
        given = told.get("lines")
        if not isinstance(given, list | tuple):
            hidden = hidden or given is not None
            continue
        first = told.get("first")
        more = told.get("left_out")
        left_out = max(left_out, more if isinstance(more, int) else 0)
        attempt = told.get("attempt")
        for i, one in enumerate(given):
            line = _line(one)
            if line is not None:
                number = (first if isinstance(first, int) else int(line.at * 1000)) + i
                lines[(attempt if isinstance(attempt, int) else 0, number)] = line
    ordered = [lines[key] for key in sorted(lines)]
    return Log(tuple(ordered[-MAX_LINES:]), left_out + max(0, len(ordered) - MAX_LINES), hidden)


def _line(told: Any) -> LogLine | None:
    if not isinstance(told, list | tuple) or len(told) != 4 or isinstance(told[0], bool):
        return None
    at, level, logger, text = told
    if not isinstance(at, int | float):
        return None
    level = str(level).upper()[:10]
    return LogLine(float(at), level.lower(), _LEVELS.get(level, ""), str(logger)[:100], str(text)[:2000])


def progress_of(others: Sequence[Mapping[str, Any]]) -> Progress | None:
    """Read the newest progress the task told."""
    told = [one for one in others if one.get("kind") == "task-progress"]
    if not told:
        return None
    newest = max(told, key=lambda one: float(one.get("at", 0.0)))
    current, total = _number(newest.get("current")), _number(newest.get("total"))
    message = newest.get("message")
    said = f": {message}"[:300] if message else ""
    at = float(newest.get("at", 0.0))
    if current is None:
        return Progress(said.removeprefix(": ") or "told without a number", None, at)
    if not total or total <= 0:
        return Progress(f"{words.significant(current)} done{said}", None, at)
    share = min(1.0, max(0.0, current / total))
    done = f"{words.significant(current)} of {words.significant(total)}, {words.percent(share)}{said}"
    return Progress(done, round(share * 100), at)


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if known else None
