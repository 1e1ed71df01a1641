"""``/healthz`` and ``/readyz``: what an orchestrator asks, answered from what is so and not from what was started.

Live means that starting anew would not help; it depends on this process alone, never on the broker or the store. Ready
means that what the pages show is now: events are heard, counted without much delay, and kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from opsq.events.records import Freshness, Strip
from opsq.web.api_handlers import json_response
from opsq.web.deps import Deps

#: What the pages show may be this old before the monitor says that it is not ready.
MOST_LAG_S: Final = 30.0
#: Tens of seconds of the lag's spark that are looked at: the last may have just begun.
_RECENT: Final = 2


class HealthHandlers:
    """Answers probes. Thread: the event loop's."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def live(self, request: Request) -> Response:
        """Answer 200 while this process serves and folds events, 503 when only a new start would help."""
        dead = not self._deps.query.folding()
        body = {"status": "dead", "missing": ["events are not counted: the thread that does it ended"]}
        return json_response(body if dead else {"status": "live"}, 503 if dead else 200)

    async def ready(self, request: Request) -> Response:
        """Answer 200 when events arrive, are counted in time and kept, otherwise 503 with what is missing.

        Why, which may name places, is told only to those who may read the pages.
        """
        fresh, strip = await run_in_threadpool(self._read)
        told = "read" in request.state.visitor.grants
        missing = [f"{what}: {why}" if told and why else what for what, why in lacks(fresh, strip)]
        body = {
            "status": "not ready" if missing else "ready", "missing": missing,
            "event_lag_s": recent_lag_s(strip), "index_lag_s": round(fresh.index_lag_s, 1),
        }  # fmt: skip
        return json_response(body, 503 if missing else 200)

    def _read(self) -> tuple[Freshness, Strip]:
        return self._deps.query.freshness(), self._deps.query.strip()


def lacks(fresh: Freshness, strip: Strip) -> Iterator[tuple[str, str]]:
    """Say what is missing and why, in the order in which it matters. Pure."""
    if not fresh.connected:
        yield "the broker is not heard", fresh.stale_reason or "not connected yet"
    if fresh.store_failing_since_at is not None:
        yield "history is not kept", fresh.store_error
    lag_s = recent_lag_s(strip)
    if lag_s > MOST_LAG_S:
        yield f"events run {lag_s:.0f} s behind", "more arrive than can be counted"


def recent_lag_s(strip: Strip) -> float:
    """How far events ran behind in the last twenty seconds, in seconds; 0 when none came. Pure."""
    return round(max(strip.lag_spark[-_RECENT:], default=0.0), 3)
