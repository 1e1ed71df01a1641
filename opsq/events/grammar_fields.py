"""The fields of the search line: one table from which the parser, its messages and ``docs/search.md`` are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from opsq.wire import states

NAME, STATE, TEXT, NUMBER, COUNT, BYTES, SINCE, UNTIL, ID = (
    *("name", "state", "text", "number", "count", "bytes", "since", "until", "id"),
)


class Field(NamedTuple):
    """One field. kind: how its value is read. expected: what a message says was expected."""

    name: str
    kind: str
    expected: str
    example: str
    doc: str


#: Everything that may stand before a colon. The order is that of the manual.
FIELDS: Final[Mapping[str, Field]] = {
    field.name: field
    for field in (
        Field("state", STATE, "a state", "state:failed", "State, by Celery's name or the everyday one."),
        Field("type", NAME, "a task name", "type:shop.*", "Task name; `*` and `?` stand for any letters."),
        Field("queue", NAME, "a queue", "queue:mail", "Queue; patterns as for `type`."),
        Field("worker", NAME, "a worker", "worker:opsq@host", "Worker that decided the state; patterns."),
        Field("id", ID, "the start of an id", "id:7f3ac91e", "Task id or its beginning."),
        Field("root", ID, "an id", "root:7f3ac91e-…", "Id of the first task of the workflow, whole."),
        Field("fault", ID, "an error's id", "fault:9b1f04c2e6d8a573", "Failed by this error, by the id of its page."),
        Field("since", SINCE, "a time", "since:2h", "Placed in time no longer ago than this."),
        Field("until", UNTIL, "a time", "until:1d", "Placed in time at least this long ago."),
        Field("runtime", NUMBER, "a duration", "runtime:>5s", "Seconds the last run took."),
        Field("wait", NUMBER, "a duration", "wait:>1min", "From published to running."),
        Field("total", NUMBER, "a duration", "total:1s..1min", "From published to acknowledged."),
        Field("retries", COUNT, "a number", "retries:>=2", "How often the task was retried."),
        Field("memory", BYTES, "a size", "memory:>200MB", "Peak memory of the process that ran it."),
        Field("args", TEXT, "text", "args:anna", "Text in the positional arguments."),
        Field("kwargs", TEXT, "text or name=value", "kwargs:user_id=5", "Text in the keyword arguments, or one."),
        Field("result", TEXT, "text", "result:done", "Text in the result."),
        Field("exception", TEXT, "text", 'exception:"timed out"', "Text in the exception."),
    )
}
ALIASES: Final[Mapping[str, str]] = {
    "name": "type", "task": "type", "host": "worker", "hostname": "worker", "uuid": "id", "error": "exception",
    "kwarg": "kwargs", "arg": "args", "duration": "runtime", "retry": "retries", "tries": "retries", "rss": "memory",
    "after": "since", "before": "until", "root_id": "root",
    "fingerprint": "fault",
}  # fmt: skip
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
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|m|h|d|w)", re.IGNORECASE)
_UNITS: Final = {
    "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0,
}  # fmt: skip
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)(b|kb|mb|gb|kib|mib|gib)?", re.IGNORECASE)
_SIZES: Final = {
    "": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1024.0, "mib": 1024.0**2, "gib": 1024.0**3,
}  # fmt: skip
_PLAIN: Final = re.compile(r"\d+(?:\.\d+)?")


def span_s(text: str) -> float | None:
    """Seconds of ``90s``, ``30min``, ``2h``, ``7d`` …; ``None`` for anything else."""
    found = _SPAN.fullmatch(text)
    return float(found[1]) * _UNITS[found[2].lower()] if found else None


def quantity(kind: str, text: str) -> float | None:
    """A number of a kind: seconds for durations, bytes for sizes; ``None`` for what is none."""
    if kind == BYTES:
        found = _SIZE.fullmatch(text)
        return float(found[1]) * _SIZES[(found[2] or "").lower()] if found else None
    if _PLAIN.fullmatch(text):
        return float(text)
    return span_s(text) if kind == NUMBER else None


def moment(text: str) -> float | None:
    """Epoch seconds of a date or date and time as ISO 8601 writes it, in UTC unless it names a zone."""
    if len(text) < 8 or not text[0].isdigit():
        return None
    try:
        when = datetime.fromisoformat(text.upper().replace(" ", "T"))
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
