"""When something is to happen, under Celery's names: ``crontab``, ``schedule``, ``solar``."""

from __future__ import annotations

from opsq.core.schedules.base import BaseSchedule, schedstate
from opsq.core.schedules.cron_fields import ParseException
from opsq.core.schedules.crontab import crontab
from opsq.core.schedules.entry import BeatLazyFunc
from opsq.core.schedules.interval import schedule
from opsq.core.schedules.solar import solar
from opsq.core.schedules.spec import as_schedule as maybe_schedule

__all__ = [
    "BaseSchedule",
    "BeatLazyFunc",
    "ParseException",
    "crontab",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "solar",
]
