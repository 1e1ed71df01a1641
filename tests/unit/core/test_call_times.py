from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from opsq.core.times import due
from opsq.errors import UsageError

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
NOW_S = NOW.timestamp()


def test_countdown_is_aware_text_with_offset() -> None:
    assert due(10, None, None, NOW_S).eta == "2026-11-21T09:00:10+00:00"
    assert due(0.5, None, None, NOW_S).eta == "2026-11-21T09:00:00.500000+00:00"
    assert due(0, None, None, NOW_S, ZoneInfo("Europe/Berlin")).eta == "2026-11-21T10:00:00+01:00"
    assert due(-5, "2030-01-01T00:00:00Z", None, NOW_S).eta == "2026-11-21T08:59:55+00:00", "countdown wins"


def test_eta_keeps_its_own_offset_and_naive_goes_without() -> None:
    east = timezone(timedelta(hours=2))
    assert due(None, datetime(2027, 1, 1, tzinfo=east), None, NOW_S).eta == "2027-01-01T00:00:00+02:00"
    assert due(None, datetime(2027, 1, 1), None, NOW_S).eta == "2027-01-01T00:00:00"  # noqa: DTZ001 the case itself
    assert due(None, "2027-01-01T00:00:00Z", None, NOW_S).eta == "2027-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("expires", "text", "ms"),
    [
        (60, "2026-11-21T09:01:00+00:00", "60000"),
        (1.5, "2026-11-21T09:00:01.500000+00:00", "1500"),
        (timedelta(minutes=1), "2026-11-21T09:01:00+00:00", "60000"),
        (NOW + timedelta(seconds=30), "2026-11-21T09:00:30+00:00", "30000"),
        ("2026-11-21T09:00:05", "2026-11-21T09:00:05", "5000"),
        (-1, "2026-11-21T08:59:59+00:00", "0"),
        (NOW - timedelta(days=1), "2026-11-20T09:00:00+00:00", "0"),
    ],
)
def test_expires(expires: Any, text: str, ms: str) -> None:
    found = due(None, None, expires, NOW_S)
    assert (found.expires, found.expiration_ms) == (text, ms)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("soon", None, None), UsageError, "countdown is a number of seconds, got 'soon'"),
        ((True, None, None), UsageError, "countdown is a number of seconds, got True"),
        ((None, "tomorrow", None), UsageError, "eta is not ISO-8601: 'tomorrow'"),
        ((None, 5, None), UsageError, "eta is a datetime or ISO-8601 text, got 5"),
        ((None, None, "later"), UsageError, "expires is not ISO-8601"),
        ((-(2.0**31) - 1, None, None), ValueError, "out of range"),
        ((1e15, None, None), ValueError, "beyond the calendar"),
        ((float("nan"), None, None), ValueError, "out of range"),
    ],
)
def test_what_is_no_time_is_refused(arguments: tuple[Any, Any, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        due(*arguments, NOW_S)
