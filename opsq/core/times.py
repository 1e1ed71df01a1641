"""Countdown, ETA and expiry of a call as they go on the wire. Pure; the caller gives the time.

Source: celery-protocol A.8. A naive datetime goes out without an offset and is read as UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from opsq.errors import UsageError

# Celery refuses anything older; so that one call means the same to both.
OLDEST_S = -(2.0**31)


class Due(NamedTuple):
    """When a call may run and until when, as ISO-8601 text; expiration_ms as AMQP wants it."""

    eta: str | None
    expires: str | None
    expiration_ms: str | None


def due(
    countdown: float | None,
    eta: datetime | str | None,
    expires: float | timedelta | datetime | str | None,
    now_s: float,
    zone: tzinfo = UTC,
) -> Due:
    """Work out both texts.

    countdown: seconds from ``now_s`` (epoch seconds); wins over ``eta``. expires: seconds from now,
    a timedelta, a datetime or ISO-8601 text.
    Raises: UsageError for what is none of these, ValueError below −2^31 seconds.
    """
    if countdown is not None:
        eta = _later(_seconds("countdown", countdown), now_s, zone)
    elif eta is not None:
        eta = _moment("eta", eta)
    if expires is None:
        return Due(eta, None, None)
    if isinstance(expires, timedelta):
        expires = expires.total_seconds()
    if isinstance(expires, (int, float)) and not isinstance(expires, bool):
        seconds = _seconds("expires", expires)
        return Due(eta, _later(seconds, now_s, zone), str(max(0, int(seconds * 1000))))
    text = _moment("expires", expires)
    left_s = _epoch_s(text) - now_s
    return Due(eta, text, str(max(0, int(left_s * 1000))))


def _seconds(what: str, value: object) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{what} is a number of seconds, got {value!r}")
    if value != value or value < OLDEST_S:
        raise ValueError(f"{what} is out of range: {value!r} seconds; the least is {OLDEST_S:.0f}")
    return value


def _later(seconds: float, now_s: float, zone: tzinfo) -> str:
    try:
        return datetime.fromtimestamp(now_s + seconds, zone).isoformat()
    except (OverflowError, OSError, ValueError):
        raise ValueError(f"{seconds!r} seconds from now is beyond the calendar") from None


def _moment(what: str, value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        raise UsageError(f"{what} is a datetime or ISO-8601 text, got {value!r}")
    try:
        datetime.fromisoformat(value)
    except ValueError:
        raise UsageError(f"{what} is not ISO-8601: {value!r}; write it as 2026-11-21T09:00:00+00:00") from None
    return value


def _epoch_s(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
