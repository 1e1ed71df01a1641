"""Times: naive means UTC, and what is no time is said."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.errors import MalformedMessage
from opsq.wire.times import parse_epoch, parse_time


@given(moment=st.datetimes(timezones=st.just(datetime.UTC)))
def test_round_trip(moment: datetime.datetime) -> None:
    assert parse_time(moment.isoformat()) == moment
    assert parse_time(moment.replace(tzinfo=None).isoformat()) == moment


def test_offsets() -> None:
    assert parse_epoch("2030-01-02T03:04:05Z") == parse_epoch("2030-01-02T05:04:05+02:00") == 1893553445.0
    cet = datetime.timezone(datetime.timedelta(hours=1))
    assert parse_epoch("2030-01-02T04:04:05", naive_zone=cet) == 1893553445.0


@given(text=st.text(alphabet="0123456789-:T+Z. W", max_size=30))
def test_arbitrary_text_raises_nothing_else(text: str) -> None:
    with contextlib.suppress(MalformedMessage):
        parse_epoch(text)


@pytest.mark.parametrize("text", ["", "soon", "2030-13-01", "2030-01-01T25:00", 5])
def test_what_is_no_time_is_said(text: Any) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_time(text, "$headers.eta")
    assert str(caught.value) == f"expected an ISO 8601 time, got {str(text)!r} at $headers.eta"
