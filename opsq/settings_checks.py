"""What must hold between settings, beyond each one's own type and bounds. Pure.

``conflicts`` are faults and stop the process; ``advice`` is worth a sentence at start.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from opsq.masking import mask_url
from opsq.settings import Settings
from opsq.settings_options import number_text

MIME_NAMES: Final = {
    "application/json": "json",
    "application/x-python-serialize": "pickle",
    "application/x-yaml": "yaml",
    "application/x-msgpack": "msgpack",
}
LOCAL_ZONES: Final = ("", "utc", "local")


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that contradict each other: their names, what is wrong, what to do."""

    names: tuple[str, ...]
    problem: str
    remedy: str = ""


def conflicts(settings: Settings) -> list[Conflict]:
    """Return every contradiction in ``settings``."""
    return [conflict for check in _CHECKS for conflict in check(settings)]


def advice(settings: Settings) -> list[str]:
    """Return sentences about choices that work but rarely as meant."""
    found = []
    accepted = {_plain(name) for name in settings.accept_content}
    if _plain(settings.task_serializer) not in accepted:
        found.append(
            f"task_serializer is {settings.task_serializer}, which accept_content does not list: "
            "workers with these settings refuse such tasks"
        )
    readable = {_plain(name) for name in settings.result_accept_content or ()} or accepted
    if _plain(settings.result_serializer) not in readable:
        found.append(
            f"result_serializer is {settings.result_serializer}, which this process does not accept: "
            "results it stores cannot be read back here"
        )
    if "pickle" in accepted:
        found.append("accept_content lists pickle: whoever can publish can run any code in this process")
    return found


def _plain(name: str) -> str:
    return MIME_NAMES.get(name, name)


def _ordered(low: str, high: str, remedy: str) -> Callable[[Settings], Iterator[Conflict]]:
    def check(settings: Settings) -> Iterator[Conflict]:
        smaller, larger = getattr(settings, low), getattr(settings, high)
        if smaller and larger and smaller > larger:
            problem = f"expected {low} ({number_text(smaller)}) not above {high} ({number_text(larger)})"
            yield Conflict((low, high), problem, remedy)

    return check


def _exclusive(durable: str, exclusive: str) -> Callable[[Settings], Iterator[Conflict]]:
    def check(settings: Settings) -> Iterator[Conflict]:
        if getattr(settings, durable) and getattr(settings, exclusive):
            yield Conflict(
                (durable, exclusive),
                f"{durable} and {exclusive} cannot both be on: a queue that ends with its connection cannot be durable",
                f"set {exclusive} to false",
            )

    return check


def _broker_urls(settings: Settings) -> Iterator[Conflict]:
    for name in ("broker_url", "broker_read_url", "broker_write_url"):
        value = getattr(settings, name)
        urls = value.split(";") if isinstance(value, str) else value or ()
        for url in urls:
            # kombu would take "localhost:6379" for a transport called that and fail much later
            if "://" not in url and not url.replace("-", "").replace("+", "").isalnum():
                yield Conflict((name,), f"expected {name} like redis://host:6379/0, got {mask_url('x://' + url)[4:]!r}")


def _timezone(settings: Settings) -> Iterator[Conflict]:
    zone = settings.timezone
    if zone is None or isinstance(zone, tzinfo) or (isinstance(zone, str) and zone.lower() in LOCAL_ZONES):
        return
    if isinstance(zone, str):
        try:
            zoneinfo.ZoneInfo(zone)
            return
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            remedy = "use a name such as Europe/Paris; on systems without zone data, pip install tzdata"
            yield Conflict(("timezone",), f"no time zone is called {zone!r}", remedy)
            return
    yield Conflict(("timezone",), f"expected timezone to be a zone name or a tzinfo, got {type(zone).__name__}")


def _rate_limit(settings: Settings) -> Iterator[Conflict]:
    limit = settings.task_default_rate_limit
    if not isinstance(limit, str):
        return
    number, slash, unit = limit.partition("/")
    if not number.strip().replace(".", "", 1).isdigit() or (slash and unit.strip() not in ("s", "m", "h")):
        yield Conflict(
            ("task_default_rate_limit",),
            f"expected task_default_rate_limit like 10/s, 100/m or 1000/h, got {limit!r}",
        )


def _queues(settings: Settings) -> Iterator[Conflict]:
    both = sorted(set(settings.worker_queues) & set(settings.worker_exclude_queues))
    if both:
        yield Conflict(
            ("worker_queues", "worker_exclude_queues"), f"queue {', '.join(both)} is both consumed and excluded"
        )


def _url_prefix(settings: Settings) -> Iterator[Conflict]:
    prefix = settings.web_url_prefix
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        wanted = "/" + prefix.strip("/") if prefix.strip("/") else ""
        yield Conflict(
            ("web_url_prefix",),
            f"expected web_url_prefix to start with / and not to end with it, got {prefix!r}",
            f"use {wanted!r}",
        )


_CHECKS: Final[tuple[Callable[[Settings], Iterator[Conflict]], ...]] = (
    _ordered(
        "task_soft_time_limit", "task_time_limit", "a soft limit is the earlier warning; lower it or raise the other"
    ),
    _ordered("task_default_priority", "task_queue_max_priority", "queues cut priorities above their maximum"),
    _ordered("autoscale_min_slots", "autoscale_max_slots", "swap them"),
    _exclusive("control_queue_durable", "control_queue_exclusive"),
    _exclusive("event_queue_durable", "event_queue_exclusive"),
    _broker_urls,
    _timezone,
    _rate_limit,
    _queues,
    _url_prefix,
)
