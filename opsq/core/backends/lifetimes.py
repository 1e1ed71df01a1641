"""When an entry of a store ends that keeps no end, only a date: by the settings it is read with, as in Celery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from opsq.settings import Settings
from opsq.wire.states import FAILURE


class Lifetimes(NamedTuple):
    """Seconds to keep failures, and everything else; none is for ever."""

    others_s: float | None
    failures_s: float | None

    @classmethod
    def of(cls, settings: Settings) -> Lifetimes:
        """By ``result_expires`` and ``result_failure_expires``."""
        others_s = settings.result_expires or None
        return cls(others_s, settings.result_failure_expires or others_s)

    def over(self, status: str | None, date: datetime | None, now: float) -> bool:
        """Whether an entry of ``date`` (naive is UTC; none never ends) is over at ``now`` (epoch seconds)."""
        ttl_s = self.failures_s if status == FAILURE else self.others_s
        return ttl_s is not None and date is not None and naive_utc(date) <= cutoff(now, ttl_s)

    def cutoffs(self, now: float) -> tuple[datetime | None, datetime | None]:
        """The dates (naive UTC) up to which failures, and all others, are over; none where they never are."""
        return (
            None if self.failures_s is None else cutoff(now, self.failures_s),
            None if self.others_s is None else cutoff(now, self.others_s),
        )


def cutoff(now: float, ttl_s: float) -> datetime:
    """The date (naive UTC) of what has just ended."""
    return datetime.fromtimestamp(now, UTC).replace(tzinfo=None) - timedelta(seconds=ttl_s)


def naive_utc(date: datetime) -> datetime:
    """The same moment in UTC, without a zone."""
    return date if date.tzinfo is None else date.astimezone(UTC).replace(tzinfo=None)
