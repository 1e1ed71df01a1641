"""A schedule as data that can be kept, as text that people type, and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from opsq.control.arguments import seconds
from opsq.core.schedules.base import BaseSchedule
from opsq.core.schedules.cron_fields import NICKNAMES
from opsq.core.schedules.crontab import crontab
from opsq.core.schedules.interval import schedule
from opsq.core.schedules.solar import EVENTS, solar
from opsq.core.schedules.zones import zone_name
from opsq.errors import UsageError

_WRITE: Final = (
    "write a time such as 30s or 1h30m, a crontab of five fields such as */5 8-18 * * mon-fri, "
    "or a solar event with its place such as sunrise 52.5 13.4"
)
_EVERY: Final = re.compile(r"\s*(?:every\s+)?(\d.*)", re.IGNORECASE)


def as_schedule(value: Any, relative: bool = False) -> Any:
    """The schedule that a value means: seconds, timedelta, text, data of ``spec_of``, or a schedule.

    relative: for intervals given as a length. Raises: UsageError.
    """
    if isinstance(value, (int, float, timedelta)) and not isinstance(value, bool):
        return schedule(value, relative)
    if isinstance(value, str):
        return schedule_from_text(value, relative)
    if isinstance(value, Mapping):
        return schedule_from_spec(value)
    if isinstance(value, BaseSchedule) or callable(getattr(value, "is_due", None)):
        return value
    raise UsageError(f"a schedule is seconds, a timedelta, a crontab or solar, got {value!r:.100}")


def schedule_from_text(text: str, relative: bool = False) -> BaseSchedule:
    """Read what somebody typed. Raises: UsageError that shows how to write it."""
    words = text.split()
    if words and words[0] in EVENTS and len(words) == 3:
        try:
            return solar(words[0], float(words[1]), float(words[2]))
        except ValueError as error:
            raise UsageError(f"schedule {text!r}: {error}") from None
    if len(words) == 5 or text.strip().lower() in NICKNAMES:
        return crontab.from_string(text)
    every = _EVERY.fullmatch(text)
    try:
        if every is not None:
            return schedule(seconds(every[1]), relative)
    except ValueError:
        pass
    raise UsageError(f"schedule: cannot read {text!r}; {_WRITE}")


def spec_of(found: Any) -> dict[str, Any] | None:
    """The schedule as data; None for one of a class of somebody else's."""
    spec: dict[str, Any] | None = None
    if type(found) is schedule:
        spec = {"type": "interval", "every": found.seconds, "relative": found.relative}
    elif type(found) is crontab:
        spec = {"type": "crontab", "crontab": found.text}
    elif type(found) is solar:
        spec = {"type": "solar", "event": found.event, "lat": found.lat, "lon": found.lon}
    if spec is not None and found.own_tz is not None:
        spec["timezone"] = zone_name(found.own_tz)
    return spec


def schedule_from_spec(spec: Mapping[str, Any]) -> BaseSchedule:
    """The schedule that ``spec_of`` wrote. Raises: UsageError for anything else."""
    kind, tz = spec.get("type"), spec.get("timezone")
    try:
        if kind == "interval":
            return schedule(spec["every"], bool(spec.get("relative")), tz=tz)
        if kind == "crontab":
            return crontab.from_string(str(spec["crontab"]), tz=tz)
        if kind == "solar":
            return solar(str(spec["event"]), float(spec["lat"]), float(spec["lon"]), tz=tz)
    except (KeyError, TypeError) as error:
        raise UsageError(f"schedule: {spec!r} lacks or misnames something: {error!r}") from None
    raise UsageError(f"schedule: type: expected interval, crontab or solar, got {kind!r}")


def text_of(found: Any) -> str:
    """The schedule as people would type it."""
    if isinstance(found, schedule):
        return f"every {span(found.seconds)}{', relative' if found.relative else ''}"
    if isinstance(found, crontab):
        return found.text
    if isinstance(found, solar):
        return f"{found.event} {found.lat:g} {found.lon:g}"
    return repr(found)


def span(length_s: float) -> str:
    """A length of time as one writes it: ``1h30m``, ``2d``, ``0.5s``."""
    if length_s < 60 or length_s != int(length_s):
        return f"{length_s:g}s"
    rest, parts = int(length_s), []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
