"""Wall clocks and instants: what a time zone makes of a date, jumps included. Pure.

An instant is epoch seconds. A wall time is a datetime without a zone. Where clocks jump forwards some wall
times do not exist: they mean the moment of the jump. Where clocks are set back some come twice: they mean the
first time.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from opsq.errors import ConfigError

DAY_S: Final = 86_400
#: No zone has ever been set back by more at once, but for a change of the date line.
_NEAR_S: Final = 4 * 3600
_LOCAL_FILE: Final = Path("/etc/localtime")


class Day(NamedTuple):
    """One date in one zone. start: its first instant. even: no clock jumps in it or close to it."""

    start: float
    end: float
    even: bool


def zone_named(name: object) -> tzinfo:
    """The zone of a name, or the zone itself. Raises: ConfigError for a name that nobody knows."""
    if isinstance(name, tzinfo):
        return name
    if not isinstance(name, str) or not name:
        raise ConfigError(f"timezone: expected the name of a zone such as Europe/Berlin, got {name!r}")
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"timezone: no zone is called {name!r}; names are such as Europe/Berlin "
            "(a system without zone data needs: pip install tzdata)"
        ) from None


def zone_of_settings(timezone: object, enable_utc: bool) -> tzinfo:
    """The zone that the settings mean: the named one, else UTC, or the machine's when ``enable_utc`` is off."""
    if timezone:
        return zone_named(timezone)
    return UTC if enable_utc else _local_zone()


def _local_zone() -> tzinfo:
    try:
        with _LOCAL_FILE.open("rb") as file:
            return ZoneInfo.from_file(file, key="localtime")
    except (OSError, ValueError):
        return UTC


def zone_name(zone: tzinfo) -> str:
    """What a zone is called."""
    return str(getattr(zone, "key", None) or zone)


def offset_s(at: float, zone: tzinfo) -> float:
    """Seconds that the wall clock is ahead of UTC at an instant."""
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0


def wall_of(at: float, zone: tzinfo) -> datetime:
    """What the wall clock shows at an instant."""
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0)


def instant_of(wall: datetime, zone: tzinfo) -> float:
    """When the wall clock first shows this; the moment of the jump for what it never shows."""
    at = wall.replace(tzinfo=zone, fold=0).timestamp()
    if wall_of(at, zone) == wall:
        return at
    # In a gap the two readings lie on both sides of the jump.
    before, after = wall.replace(tzinfo=zone, fold=1).timestamp(), at
    return _jump_between(min(before, after), max(before, after), zone)


def _jump_between(low: float, high: float, zone: tzinfo) -> float:
    """The first whole second from ``low`` to ``high`` with the offset of ``high``."""
    wanted = offset_s(high, zone)
    first, last = int(low), int(high)
    while last - first > 1:
        middle = (first + last) // 2
        if offset_s(middle, zone) == wanted:
            last = middle
        else:
            first = middle
    return float(last)


@lru_cache(maxsize=4096)
def day_of(day: date, zone: tzinfo) -> Day:
    """Where a date begins and ends, and whether its clock runs evenly."""
    start = instant_of(datetime.combine(day, time()), zone)
    end = instant_of(datetime.combine(day + timedelta(days=1), time()), zone)
    offsets = {offset_s(at, zone) for at in (start - _NEAR_S, start, end - 1, end + _NEAR_S)}
    return Day(start, end, end - start == DAY_S and len(offsets) == 1)


def shown_minutes(day: date, zone: tzinfo) -> list[tuple[float, int]]:
    """(instant, minute of the day) for every minute that the wall clock shows of a date, in order of instants."""
    found = day_of(day, zone)
    shown = []
    at = found.start - _NEAR_S
    while at < found.end + _NEAR_S:
        wall = wall_of(at, zone)
        if wall.date() == day:
            shown.append((at, wall.hour * 60 + wall.minute))
        at += 60
    return shown
