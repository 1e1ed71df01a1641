"""What every schedule has in common: the next instant after another, and Celery's way of asking.

A schedule of your own is a class with one method: ``next_after``, or Celery's ``remaining_estimate`` or ``is_due``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple, Self

from opsq.core.registry import PROCESS
from opsq.core.schedules.zones import zone_named, zone_of_settings
from opsq.errors import UsageError


class schedstate(NamedTuple):
    """Celery's answer: whether it is due, and in how many seconds to ask again."""

    is_due: bool
    next: float


class BaseSchedule:
    """When something is to happen.

    nowfun: gives the time instead of the clock. app: whose ``timezone`` counts; the current app by default.
    tz: a zone of its own, name or tzinfo. Thread: any; nothing here changes once it is in use.
    """

    def __init__(
        self, nowfun: Callable[[], datetime] | None = None, app: Any = None, tz: str | tzinfo | None = None
    ) -> None:
        self.nowfun = nowfun
        self._app = app
        self._tz = None if tz is None else zone_named(tz)

    @property
    def app(self) -> Any:
        """The app whose settings count; None when there is none."""
        if self._app is not None:
            return self._app
        apps = PROCESS.apps()
        return apps[-1] if apps else None

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    @property
    def tz(self) -> tzinfo:
        """The zone it is meant in."""
        if self._tz is not None:
            return self._tz
        app = self.app
        if app is None:
            return UTC
        settings = app.conf.load().settings
        return zone_of_settings(settings.timezone, settings.enable_utc)

    @property
    def own_tz(self) -> tzinfo | None:
        """The zone that was given to it, if one was."""
        return self._tz

    def settled(self, app: Any, tz: str | tzinfo | None = None) -> Self:
        """The same with its zone fixed: its own, else ``tz``, else that of the app."""
        found = copy.copy(self)
        found._app = app
        found._tz = self._tz or (None if tz is None else zone_named(tz))
        found._tz = found.tz
        return found

    def now(self) -> datetime:
        """The time, with a zone."""
        return self.nowfun() if self.nowfun is not None else datetime.now(UTC)

    def next_after(self, at: float) -> float | None:
        """The first instant later than ``at``, epoch seconds; None when it never happens again."""
        if type(self).remaining_estimate is BaseSchedule.remaining_estimate:
            raise UsageError(f"schedule {type(self).__name__} needs a method next_after(at)")
        left = self.remaining_estimate(datetime.fromtimestamp(at, self.tz))
        return self._aware(self.now()).timestamp() + left.total_seconds()

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """How long from now to the run that follows ``last_run_at``; negative when that is over."""
        following = self.next_after(self._aware(last_run_at).timestamp())
        if following is None:
            return timedelta.max
        return timedelta(seconds=following - self._aware(self.now()).timestamp())

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether a run is due after the last one, and in how many seconds to ask again."""
        left_s = self.remaining_estimate(last_run_at).total_seconds()
        if left_s > 0:
            return schedstate(False, left_s)
        following = self.remaining_estimate(self.now()).total_seconds()
        return schedstate(True, max(following, 0.0))

    def _aware(self, moment: datetime) -> datetime:
        # Celery's rule: a moment without a zone is UTC.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
