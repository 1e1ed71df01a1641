"""The remote commands that pause and resume, and the one that tells what is not as configured."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from opsq.broker.standing import PAUSED_QUEUE, StandingOrder
from opsq.control.standing import orders_of
from opsq.core.worker.station import Station


def pause(station: Station, queue: Any, task: Any, for_s: float | None) -> dict[str, Any]:
    """Take nothing more from queues, hold back task types; until resumed, or for ``for_s`` seconds."""
    orders = orders_of("pause", {"queue": queue, "task": task, "for_s": for_s}, time.time(), 0.0)
    station.obey(orders)
    answer: dict[str, Any] = {"ok": f"{_named(orders)} paused"}
    return answer if for_s is None else {**answer, "until": orders[0].until}


def resume(station: Station, queue: Any, task: Any) -> dict[str, str]:
    """Undo ``pause``; what was not paused is no error."""
    orders = orders_of("resume", {"queue": queue, "task": task}, time.time(), 0.0)
    station.lift(orders)
    return {"ok": f"{_named(orders)} resumed"}


def overrides(station: Station) -> list[dict[str, Any]]:
    """What ends by itself, and what is paused without an end."""
    found = [
        {"what": each.what, "now": each.now, "then": each.then, "until": _text(each.until)}
        for each in station.plan.overrides.listed()
    ]
    endless = [each for each in station.plan.standing.pauses() if each.until is None]
    return found + [{"what": _named([each]), "now": "paused", "then": "", "until": None} for each in endless]


def _named(orders: list[StandingOrder]) -> str:
    return ", ".join(f"{'queue' if each.kind == PAUSED_QUEUE else 'task'} {each.name}" for each in orders)


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
