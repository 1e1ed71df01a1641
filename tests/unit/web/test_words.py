"""Numbers, times and names read as the design language asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.web import words


def plain(text: str) -> str:
    """Show no-break spaces as spaces, so that the expectations can be read."""
    return text.replace(words.NBSP, " ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0004, "0.4 ms"),
        (0.0213, "21 ms"),
        (0.612, "612 ms"),
        (0.9996, "1 s"),
        (1.94, "1.9 s"),
        (9.97, "10.0 s"),
        (24.6, "24.6 s"),
        (59.97, "1 min"),
        (60, "1 min"),
        (478, "7 min 58 s"),
        (3599.8, "1 h"),
        (24_660, "6 h 51 min"),
        (86_399, "1 d"),
        (273_600, "3 d 4 h"),
        (-3, "0 ms"),
        (None, "unknown"),
        (float("nan"), "unknown"),
    ],
)
def test_duration_uses_at_most_two_units(seconds: float | None, text: str) -> None:
    assert plain(words.duration(seconds)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (79_601, "79,601"),
        (999_999, "999,999"),
        (1_240_000, "1.2 M"),
        (2_000_000, "2 M"),
        (123_456_789, "123 M"),
        (4_500_000_000, "4.5 G"),
        (None, "unknown"),
    ],
)
def test_count_is_exact_below_a_million(value: int | None, text: str) -> None:
    assert plain(words.count(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (38.4, "38.4"),
        (0.43, "0.43"),
        (0.0432, "0.043"),
        (11_520.4, "11,520"),
        (99.97, "100"),
        (5.0, "5"),
        (3.14159, "3.1"),
    ],
)
def test_significant_keeps_three_digits(value: float, text: str) -> None:
    assert words.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 /s"), (38.44, "38.4 /s"), (0.86, "0.86 /s"), (0.04, "2.4 /min"), (None, "unknown")]
)
def test_slow_rates_are_said_per_minute(value: float | None, text: str) -> None:
    assert plain(words.rate(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 %"),
        (0.00001, "<0.01 %"),
        (0.00431, "0.43 %"),
        (0.061, "6.1 %"),
        (0.61, "61 %"),
        (1, "100 %"),
        (None, "unknown"),
    ],
)
def test_percent(value: float | None, text: str) -> None:
    assert plain(words.percent(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_900_000_000, "1.9 GB"),
        (240_000_000, "240 MB"),
        (999_700, "1 MB"),
        (None, "unknown"),
    ],
)
def test_size_in_powers_of_a_thousand(value: int | None, text: str) -> None:
    assert plain(words.size(value)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "now"), (3.9, "3 s"), (190, "3 min"), (7300, "2 h"), (500_000, "5 d"), (None, "unknown")],
)
def test_age_has_one_unit(seconds: float | None, text: str) -> None:
    assert plain(words.age(seconds)) == text


def test_ago_is_a_phrase() -> None:
    assert words.ago(0.1) == "just now"
    assert plain(words.ago(161.3)) == "2 min 41 s ago"
    assert words.ago(None) == "at an unknown time"


def test_times_carry_their_zone() -> None:
    at = 1_794_884_047.114
    assert words.full_time(at).endswith("UTC")
    assert words.iso(at).endswith("Z")
    assert words.clock_ms(at).endswith(".114")
    assert words.clock(at) == words.clock_seconds(at)[:5]


def test_a_clock_out_of_range_is_clamped() -> None:
    assert words.utc(1e30).year == 9999
    assert words.utc(-5).year == 1970


def test_names_and_ids() -> None:
    assert words.short_id("7f3ac91e-52d0-4b6e") == "7f3ac91e"
    assert words.short_name("shop.images.resize") == "images.resize"
    assert words.short_name("resize") == "resize"
    assert words.short_host("opsq@img-1") == "img-1"
    assert words.short_host("celery@legacy-1") == "celery@legacy-1"
    assert words.plural(1, "worker") == "1 worker"
    assert words.plural(2, "try", "tries") == "2 tries"


@pytest.mark.parametrize(
    ("number", "long", "short"), [(1, "first", "1st"), (3, "third", "3rd"), (11, "11th", "11th"), (22, "22nd", "22nd")]
)
def test_ordinals(number: int, long: str, short: str) -> None:
    assert (words.ordinal(number), words.short_ordinal(number)) == (long, short)


@given(st.floats(min_value=0, max_value=1e12))
def test_no_duration_is_too_long_to_read(seconds: float) -> None:
    text = words.duration(seconds)
    assert text
    assert " " not in text
    assert len(plain(text).split(" ")) <= 4


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_every_number_has_words(value: float) -> None:
    assert words.significant(value)
