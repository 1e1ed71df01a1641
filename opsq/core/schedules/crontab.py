"""``crontab``: at these minutes of these hours of these days.

A day must fit day of month, month and day of week, all three, as in Celery (cron takes either of the two days).

**When clocks jump.** A crontab that names hours means the wall clock, once each: what the clock skips happens at the
moment of the jump, and what it shows twice happens the first time. A crontab of every hour means so many times an
hour: it follows real time, so that the hour which comes twice has its runs twice, and the one that is not there has
none. So nothing that was asked for is lost, and nothing happens twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Final

from opsq.core.schedules.base import BaseSchedule
from opsq.core.schedules.cron_fields import (
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    HOUR,
    MINUTE,
    MONTH_OF_YEAR,
    NICKNAMES,
    ParseException,
    read_field,
)
from opsq.core.schedules.zones import day_of, instant_of, shown_minutes, wall_of

#: The 29th of February on a given day of the week comes back within 40 years (1896 to 1936, 2096 to 2136).
_YEARS: Final = 41
_LONGEST_MONTH: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class crontab(BaseSchedule):
    """At certain minutes; each field a number, text such as ``*/15`` or ``mon-fri``, or several numbers.

    Sunday is 0. tz: a zone of its own; else that of the app. Raises: ParseException, a ValueError.
    """

    def __init__(
        self,
        minute: Any = "*",
        hour: Any = "*",
        day_of_week: Any = "*",
        day_of_month: Any = "*",
        month_of_year: Any = "*",
        *,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
        tz: str | tzinfo | None = None,
    ) -> None:
        super().__init__(nowfun, app, tz)
        given = ("*" if each is None else each for each in (minute, hour, day_of_week, day_of_month, month_of_year))
        self._given = tuple(each if isinstance(each, (int, str)) else frozenset(each) for each in given)
        self.minute = read_field(MINUTE, self._given[0])
        self.hour = read_field(HOUR, self._given[1])
        self.day_of_week = read_field(DAY_OF_WEEK, self._given[2])
        self.day_of_month = read_field(DAY_OF_MONTH, self._given[3])
        self.month_of_year = read_field(MONTH_OF_YEAR, self._given[4])
        if all(day > _LONGEST_MONTH[month - 1] for month in self.month_of_year for day in self.day_of_month):
            raise ParseException(f"crontab {self.text}: there is no such date in any year")
        self._times = tuple(hour * 60 + minute for hour in sorted(self.hour) for minute in sorted(self.minute))
        self._days = tuple(sorted(self.day_of_month))

    @classmethod
    def from_string(cls, crontab: str, **more: Any) -> crontab:
        """Read five fields, minute hour day month weekday, or a name such as ``@daily``."""
        words = NICKNAMES.get(crontab.strip().lower(), crontab).split()
        if len(words) != 5:
            raise ParseException(
                f"a crontab has five fields (minute hour day month weekday) or is one of {', '.join(NICKNAMES)}, "
                f"got {crontab!r}"
            )
        minute, hour, day_of_month, month_of_year, day_of_week = words
        return cls(minute, hour, day_of_week, day_of_month, month_of_year, **more)

    @property
    def fields(self) -> tuple[Any, ...]:
        """Minute, hour, day of week, day of month and month as they were given."""
        return self._given

    @property
    def text(self) -> str:
        """The five fields in cron's order."""
        minute, hour, weekday, day, month = (
            ",".join(map(str, sorted(each))) if isinstance(each, frozenset) else str(each) for each in self._given
        )
        return f"{minute} {hour} {day} {month} {weekday}"

    @property
    def every_hour(self) -> bool:
        """Whether it follows real time where clocks jump."""
        return len(self.hour) == 24

    def next_after(self, at: float) -> float | None:
        """The first instant later than ``at``; None when there is none within 40 years."""
        zone = self.tz
        today = wall_of(at, zone).date()
        yesterday = today - timedelta(days=1)
        # Where midnight is shown twice, yesterday comes back after today has begun.
        first = today if day_of(yesterday, zone).even else yesterday
        for day in self._dates(first):
            found = self._first_of(day, at, zone)
            if found is None:
                continue
            tomorrow = day + timedelta(days=1)
            if not day_of(day, zone).even and self._fits(tomorrow):
                other = self._first_of(tomorrow, at, zone)
                return found if other is None else min(found, other)
            return found
        return None

    def _first_of(self, day: date, at: float, zone: tzinfo) -> float | None:
        start, _, even = day_of(day, zone)
        if not even:
            instants = _uneven(day, zone, self._times, self.every_hour)
            return next((instant for instant in instants if instant > at), None)
        if start + self._times[-1] * 60 <= at:
            return None
        low, high = 0, len(self._times) - 1
        while low < high:
            middle = (low + high) // 2
            if start + self._times[middle] * 60 > at:
                high = middle
            else:
                low = middle + 1
        return start + self._times[low] * 60

    def _fits(self, day: date) -> bool:
        return (
            day.month in self.month_of_year
            and day.day in self.day_of_month
            and day.isoweekday() % 7 in self.day_of_week
        )

    def _dates(self, first: date) -> Iterator[date]:
        year, month = first.year, first.month
        while year <= min(first.year + _YEARS, 9998):
            if month in self.month_of_year:
                yield from (day for day in self._dates_in(year, month) if day >= first)
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)

    def _dates_in(self, year: int, month: int) -> Iterator[date]:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        length = 28 if month == 2 and not leap else _LONGEST_MONTH[month - 1]
        for number in self._days:
            if number <= length and (day := date(year, month, number)).isoweekday() % 7 in self.day_of_week:
                yield day

    def __repr__(self) -> str:
        return f"<crontab: {self.text} (m/h/dM/MY/d)>"

    def __eq__(self, other: object) -> bool:
        return self._sets() == other._sets() if isinstance(other, crontab) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._sets())

    def _sets(self) -> tuple[object, ...]:
        return (self.minute, self.hour, self.day_of_week, self.day_of_month, self.month_of_year, self._tz)

    def __reduce__(self) -> Any:
        return _rebuild, (self._given, self._tz)


def _rebuild(given: tuple[Any, ...], tz: tzinfo | None) -> crontab:
    return crontab(*given, tz=tz)


@lru_cache(maxsize=512)
def _uneven(day: date, zone: tzinfo, times: tuple[int, ...], every_hour: bool) -> tuple[float, ...]:
    """The instants of a date on which clocks jump."""
    if every_hour:
        wanted = frozenset(times)
        return tuple(at for at, minute in shown_minutes(day, zone) if minute in wanted)
    midnight = datetime.combine(day, time())
    return tuple(sorted({instant_of(midnight + timedelta(minutes=minute), zone) for minute in times}))
