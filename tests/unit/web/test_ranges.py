"""Stretches of time by URL: those that end now, any other by its ends, and nonsense."""

from __future__ import annotations

import pytest

from opsq.web.view_common import Places, parse_ask, range_links
from opsq.web.view_range import RANGES, asked_range


def test_a_range_of_its_own_goes_through_the_url_unchanged() -> None:
    ask = parse_ask("overview", {"from": "2026-11-19T02:00", "to": "2026-11-19T03:30:30", "p": "99"}, {})
    assert ask.range.own
    assert ask.range.length_s == 5430
    assert ask.query() == "?from=2026-11-19T02%3A00%3A00&to=2026-11-19T03%3A30%3A30&p=99"
    assert ask.range.when == "from 19\u00a0Nov 02:00 to 03:30"
    picker = range_links(ask, Places("/x"), "/")
    assert not any(current for _, _, current in picker.links)
    assert picker.links[1][1] == "/x/?range=1h&p=99"
    assert picker.kept == (("p", "99"),)
    assert picker.chosen.to_text == "2026-11-19T03:30:30"


def test_a_zone_in_the_url_counts() -> None:
    found = asked_range({"from": "2026-11-19T03:00+01:00", "to": "2026-11-19T03:00Z"})
    assert found is not None
    assert found.length_s == 3600


@pytest.mark.parametrize(
    "params",
    [
        {"from": "2026-11-19T02:00"}, {"from": "", "to": ""}, {"from": "x", "to": "2026-11-19"},
        {"from": "2026-11-19T02:00", "to": "2026-11-19T02:00:30"},
        {"from": "2026-11-19T03:00", "to": "2026-11-19T02:00"},
        {"from": "0001-01-01", "to": "9999-12-31"}, {"from": "2026-11-19T02:00" * 99, "to": "2026-11-19T03:00"},
        {"range": "2y"},
    ],
)  # fmt: skip
def test_nonsense_asks_for_nothing(params: dict[str, str]) -> None:
    assert asked_range(params) is None


def test_ranges_that_end_now_reach_to_ninety_days() -> None:
    assert [each.label for each in RANGES] == ["15 min", "1 h", "6 h", "24 h", "7 d", "30 d", "90 d"]
    assert asked_range({"range": "90d"}) is RANGES[-1]
