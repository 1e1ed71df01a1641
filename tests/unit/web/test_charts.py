"""Geometry: gaps stay gaps, scales hold every value, the last bucket is drawn open."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.web import charts

VALUES = st.lists(st.none() | st.floats(min_value=0, max_value=1e9), max_size=100)


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.4, 0.5), (1, 1), (1.2, 1.5), (38.9, 50), (50, 50), (99, 100), (1330, 1500)]
)
def test_the_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert charts.nice_above(value) == pytest.approx(top)


def test_a_gap_is_not_drawn_over() -> None:
    scale = charts.linear([[1, 2, 3, 4]], 96)
    line = charts.trace([1, 2, None, 3, 4], scale, "total")
    assert line.closed.count("M") == 2
    assert line.open.count("M") == 1


def test_a_single_bucket_can_be_seen() -> None:
    line = charts.trace([None, 5, None], charts.linear([[5]], 96), "total")
    assert line.closed.endswith("h2")


def test_a_size_holds_until_the_next_one() -> None:
    line = charts.trace([4, 4, 2, None, 2], charts.linear([[4]], 96), "running", steps=True, open=False)
    first, level, corner, low = (point.split(",") for point in line.closed.removeprefix("M").split("M")[0].split(" "))
    assert first[1] == level[1] == corner[1]
    assert corner[0] == low[0] != level[0]
    assert float(low[1]) > float(corner[1])


@given(VALUES)
def test_nothing_is_drawn_outside_the_box(values: list[float | None]) -> None:
    for scale in (charts.linear([values], 96), charts.logarithmic([values], 96)):
        for value in values:
            if value is not None:
                assert -0.1 <= scale.to_y(value) <= 96.1
        drawn = charts.trace(values, scale, "total", area=True, height=96)
        assert not re.search("nan|inf", drawn.closed + drawn.open + drawn.area)


@given(VALUES)
def test_sparks_take_anything(values: list[float | None]) -> None:
    assert "nan" not in charts.spark(values, width=52).closed


def test_log_ticks_are_known_lengths() -> None:
    labels = [tick.label for tick in charts.logarithmic([[0.02, 400]], 200).ticks]
    assert labels == ["10\u00a0min", "1\u00a0min", "10\u00a0s", "1\u00a0s", "100\u00a0ms", "10\u00a0ms"]


def test_segments_lie_end_to_end() -> None:
    bar, cut = charts.segments([("waiting", 1.0), ("prefetched", None), ("running", 3.0)], 4.0)
    assert [(s.css, s.x, s.width) for s in bar] == [("waiting", 0, 25), ("running", 25, 75)]
    assert not cut


def test_a_longer_bar_ends_in_a_notch() -> None:
    bar, cut = charts.segments([("waiting", 1.0), ("running", 30.0)], 4.0)
    assert cut
    assert sum(segment.width for segment in bar) == pytest.approx(100)


def test_heat_has_six_steps_and_unknown() -> None:
    assert charts.heat_steps([None, 0, 0.1, 0.5, 1.0, 7.0]) == (None, 0, 1, 3, 5, 5)


def test_every_second_label_leaves_on_a_phone() -> None:
    ticks = charts.time_ticks(0, 3600)
    assert [tick.css for tick in ticks] == ["", "mid m-no", "mid", "mid m-no", "mid", "mid m-no", "end"]
