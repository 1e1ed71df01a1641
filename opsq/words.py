"""Numbers, times and names in words, for pages, the command line and diagnoses.

One rule each, so that the same quantity reads the same everywhere: three digits of meaning, commas in
thousands, a no-break space before every unit, at most two units of time. What is not known is the word
``unknown``, never 0; what does not apply is a dash. Source: the design language, section 6.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

NBSP = "\u00a0"
UNKNOWN = "unknown"
NOT_APPLICABLE = "–"
ID_LENGTH = 8

_ORDINALS = ("zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_MILLION = 1_000_000


def significant(value: float) -> str:
    """Give a plain number three digits of meaning at most: 0.43, 38.4, 1,234, 1.2 M."""
    size = abs(value)
    if size >= _MILLION * 0.9995:
        return count(round(value))
    if size >= 99.95 or value == int(value):
        return f"{round(value):,}"
    if size >= 0.995:
        return _trim(f"{value:.1f}")
    if size >= 0.0995:
        return f"{value:.2f}"
    return f"{value:.2g}" if size >= 0.0005 else "0"


def count(value: int | None) -> str:
    """Say how many, exactly below a million: 79,601 or 1.2 M."""
    if value is None:
        return UNKNOWN
    if abs(value) < _MILLION:
        return f"{value:,}"
    millions = value / _MILLION
    if abs(millions) >= 999.5:
        return f"{_trim(f'{millions / 1000:.1f}')}{NBSP}G"
    return f"{_trim(f'{millions:.1f}' if abs(millions) < 99.95 else f'{millions:.0f}')}{NBSP}M"


def plural(number: int, one: str, many: str | None = None) -> str:
    """Say a count with its noun: ``1 worker``, ``12 workers``."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """Say how long in at most two units: ``21 ms``, ``24.6 s``, ``7 min 58 s``, ``3 d 4 h``.

    A negative length (two clocks that disagree) is said as ``0 ms``: the skew is shown where it belongs.
    """
    if seconds is None or math.isnan(seconds):
        return UNKNOWN
    parts = duration_parts(max(0.0, seconds))
    return NBSP.join(f"{number}{NBSP}{unit}" for number, unit in parts)


def duration_parts(seconds: float) -> list[tuple[str, str]]:
    """Split a length into (number, unit) pairs, for pages that set the units in small type."""
    if seconds < 0.9995:
        return [(_milliseconds(seconds * 1000), "ms")]
    if seconds < 9.95:
        return [(_trim(f"{seconds:.1f}"), "s")]
    if seconds < 59.95:
        return [(f"{seconds:.0f}" if seconds == int(seconds) else f"{seconds:.1f}", "s")]
    for size, unit, minor_size, minor in ((60, "min", 1, "s"), (3600, "h", 60, "min"), (86_400, "d", 3600, "h")):
        if unit == "d" or seconds < size * (60 if unit == "min" else 24) - minor_size / 2:
            minors = round(seconds / minor_size)
            per = size // minor_size
            major, rest = divmod(minors, per)
            return [(f"{major:,}", unit), (str(rest), minor)] if rest else [(f"{major:,}", unit)]
    raise AssertionError("unreachable: days take every length")  # the loop ends at its last row


def _milliseconds(value: float) -> str:
    if value >= 9.95:
        return str(round(value))
    return _trim(f"{value:.1f}") if value >= 0.05 else "0"


def rate(per_second: float | None) -> str:
    """Say a rate per second, a slow one per minute: ``38.4 /s``, ``26 /min``, ``0 /s``."""
    number, unit = rate_parts(per_second)
    return f"{number}{NBSP}{unit}" if unit else number


def rate_parts(per_second: float | None) -> tuple[str, str]:
    """Split a rate into number and unit; the unit is empty when the rate is not known."""
    if per_second is None:
        return UNKNOWN, ""
    if per_second == 0 or per_second >= 0.1:
        return significant(round(per_second, 3)), "/s"
    return significant(round(per_second * 60, 3)), "/min"


def percent(share: float | None) -> str:
    """Say a share of one as a percentage: ``0.43 %``, ``61 %``."""
    number, unit = percent_parts(share)
    return f"{number}{NBSP}{unit}" if unit else number


def percent_parts(share: float | None) -> tuple[str, str]:
    """Split a share into number and sign; the sign is empty when the share is not known."""
    if share is None:
        return UNKNOWN, ""
    value = share * 100
    if value == 0:
        return "0", "%"
    if value < 0.01:
        return "<0.01", "%"
    return (f"{value:.2f}" if value < 0.995 else _trim(f"{value:.1f}") if value < 9.95 else str(round(value))), "%"


def size(size_bytes: int | None) -> str:
    """Say an amount of memory or disk in powers of 1000: ``240 MB``, ``1.9 GB``."""
    if size_bytes is None:
        return UNKNOWN
    value, unit = float(size_bytes), _BYTE_UNITS[0]
    for unit in _BYTE_UNITS:
        if value < 999.5 or unit == _BYTE_UNITS[-1]:
            break
        value /= 1000
    return f"{_trim(f'{value:.1f}') if value < 9.95 and unit != 'B' else f'{value:.0f}'}{NBSP}{unit}"


def age(seconds: float | None) -> str:
    """Say how long ago in one unit, for lists: ``now``, ``3 s``, ``12 min``, ``5 d``."""
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return "now"
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= length:
            return f"{int(seconds // length):,}{NBSP}{unit}"
    raise AssertionError("unreachable: a second or more is at least one second")


def ago(seconds: float | None) -> str:
    """Say how long ago in a sentence: ``just now``, ``2 min 41 s ago``."""
    if seconds is None:
        return f"at an {UNKNOWN} time"
    return "just now" if seconds < 1 else f"{duration(float(round(seconds)) if seconds >= 10 else seconds)} ago"


def utc(at: float) -> datetime:
    """Turn epoch seconds into an aware moment; out-of-range clocks of peers are clamped, not raised."""
    return datetime.fromtimestamp(min(max(at, 0.0), 253_402_300_799.0), tz=UTC)


def iso(at: float) -> str:
    """Write a moment for the ``datetime`` attribute, with milliseconds."""
    return utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def full_time(at: float) -> str:
    """Write a moment in full, with its zone, for a ``title``."""
    moment = utc(at)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"


def clock(at: float) -> str:
    """Write the time of day of a timeline: ``02:58``."""
    return f"{utc(at):%H:%M}"


def day(at: float) -> str:
    """Write the day of a long timeline: ``19 Nov``."""
    moment = utc(at)
    return f"{moment.day}{NBSP}{moment:%b}"


def clock_seconds(at: float) -> str:
    """Write the time of day to the second: ``03:14:07``."""
    return f"{utc(at):%H:%M:%S}"


def clock_ms(at: float) -> str:
    """Write the time of day to the millisecond: ``03:10:44.114``."""
    moment = utc(at)
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def short_id(task_id: str) -> str:
    """Keep the first eight characters of an id; the whole stands in ``title`` and URL."""
    return task_id[:ID_LENGTH]


def short_name(task_name: str) -> str:
    """Keep the last two parts of a task's name, as lists show it."""
    return ".".join(task_name.split(".")[-2:])


def short_host(hostname: str) -> str:
    """Keep what tells opsq's workers apart; other people's node names stay whole."""
    prefix, at, host = hostname.partition("@")
    return host if at and prefix == "opsq" and host else hostname


def cut(text: str, most: int = 48) -> str:
    """Keep the beginning of a name that is too long for a list; the whole stands in ``title`` or on its own page."""
    return text if len(text) <= most else text[: most - 1] + "…"


def ordinal(number: int) -> str:
    """Say which one: ``third``, ``11th``."""
    if 0 <= number < len(_ORDINALS):
        return _ORDINALS[number]
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def short_ordinal(number: int) -> str:
    """Say which one in figures: ``1st``, ``3rd``."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def _trim(text: str) -> str:
    """Drop a fraction that is only zeros: 2.0 reads 2."""
    return text.rstrip("0").rstrip(".") if "." in text and not text.rpartition(".")[2].strip("0") else text
