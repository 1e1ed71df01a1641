"""Every so often: ``schedule(30)``, ``schedule(timedelta(hours=1), relative=True)``.

Plain intervals count real time, whatever the wall clock does. Relative ones are rounded down to the day, hour or
minute on the wall clock, by the length of the interval; those of a day or more count dates.
Source: Celery's ``schedule`` and ``delta_resolution``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time, timedelta, tzinfo
from typing import Any, Final

from opsq.core.schedules.base import BaseSchedule
from opsq.core.schedules.zones import DAY_S, instant_of, offset_s, wall_of
from opsq.errors import UsageError

SHORTEST_S: Final = 0.001
_HOUR_S: Final = 3600
_MINUTE_S: Final = 60
#: Boundaries are looked for so far around a jump of the clock.
_JUMP_S: Final = 26 * 3600


class schedule(BaseSchedule):
    """Every ``run_every``, seconds or a timedelta.

    relative: rounded down to the day, hour or minute. Raises: UsageError when it is not longer than nothing.
    """

    def __init__(
        self,
        run_every: float | timedelta | None = None,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
        tz: str | tzinfo | None = None,
    ) -> None:
        super().__init__(nowfun, app, tz)
        if isinstance(run_every, bool) or not isinstance(run_every, (int, float, timedelta)):
            raise UsageError(f"an interval is seconds or a timedelta, got {run_every!r}")
        every = run_every if isinstance(run_every, timedelta) else timedelta(seconds=run_every)
        if every.total_seconds() < SHORTEST_S:
            raise UsageError(f"an interval is at least {SHORTEST_S:g} s, got {every.total_seconds():g} s")
        self.run_every = every
        self.relative = relative

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.run_every.total_seconds()

    @property
    def human_seconds(self) -> str:
        """How long it is, for people."""
        return f"{self.seconds:g} s"

    def next_after(self, at: float) -> float:
        """The instant one interval after ``at``, rounded when relative."""
        if not self.relative or self.seconds < _MINUTE_S:
            return at + self.seconds
        if self.seconds >= DAY_S:
            midnight = datetime.combine((wall_of(at, self.tz) + self.run_every).date(), time())
            return instant_of(midnight, self.tz)
        unit = _HOUR_S if self.seconds >= _HOUR_S else _MINUTE_S
        return self._rounded(at, at + self.seconds, unit)

    def _rounded(self, at: float, end: float, unit: int) -> float:
        """The last full hour or minute on the wall later than ``at`` and not after ``end``, else the first after."""
        offset = offset_s(end, self.tz)
        whole = end - (end + offset) % unit
        if offset_s(whole, self.tz) == offset and whole > at:
            return whole
        minute = end - end % _MINUTE_S
        while minute > at:
            if (minute + offset_s(minute, self.tz)) % unit == 0:
                return minute
            minute -= _MINUTE_S
        minute = end - end % _MINUTE_S + _MINUTE_S
        while minute < end + _JUMP_S and (minute + offset_s(minute, self.tz)) % unit:
            minute += _MINUTE_S
        return minute

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}{', relative' if self.relative else ''}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, schedule):
            return (self.run_every, self.relative) == (other.run_every, other.relative)
        return self.run_every == other if isinstance(other, timedelta) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.run_every, self.relative))

    def __reduce__(self) -> Any:
        return type(self), (self.run_every, self.relative, self.nowfun, None, self._tz)
