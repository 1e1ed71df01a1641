"""Answers for programs about slots: every group's latest decision, and one number for an external scaler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from opsq.autoscale.account import SILENT_S
from opsq.autoscale.explain import asked, finding, reason
from opsq.events.decisions import DecisionItem
from opsq.web.api_handlers import json_response
from opsq.web.deps import Deps


class ApiScaled(msgspec.Struct, frozen=True):
    """One group: its latest decision, and the same in words."""

    group: str
    finding: str
    reason: str
    wanted_slots: int
    decision: DecisionItem


class ApiScaling(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/autoscale``, by the group's name."""

    groups: tuple[ApiScaled, ...]


class ApiDesired(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/autoscale/metrics``: numbers that KEDA's ``valueLocation`` can name.

    Of one group, or the sums of all. age_s: seconds since the oldest decision among them.
    """

    group: str
    desired_slots: int
    wanted_slots: int
    slots: int
    min_slots: int
    max_slots: int
    age_s: float


class ScalingHandlers:
    """Thread: the event loop's; the store is asked in threads."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def groups(self, request: Request) -> Response:
        """Answer with every group that decided of late."""
        found = await self._read(lambda: self._latest(SILENT_S))
        return json_response(
            ApiScaling(tuple(ApiScaled(one.group, finding(one), reason(one), asked(one), one) for one in found))
        )

    async def metrics(self, request: Request) -> Response:
        """Answer with the slots to have; 404 when nobody decided of late, so that the scaler's own fallback holds."""
        group = request.query_params.get("group", "")
        found = [one for one in await self._read(lambda: self._latest(SILENT_S)) if group in ("", one.group)]
        if not found:
            whose = f"group {group!r}" if group else "any group"
            raise HTTPException(404, f"No decision of {whose} in the last {SILENT_S:.0f} s")
        return json_response(desired(group, found, self._deps.clock.now()))

    def _latest(self, within_s: float) -> tuple[DecisionItem, ...]:
        return self._deps.views.scaled_groups(self._deps.clock.now() - within_s)

    async def _read(self, read: Callable[[], Any]) -> Any:
        return await run_in_threadpool(read)


def desired(group: str, found: list[DecisionItem], now: float) -> ApiDesired:
    """Sum up decisions for an external scaler."""
    return ApiDesired(
        group=group,
        desired_slots=sum(one.target for one in found),
        wanted_slots=sum(asked(one) for one in found),
        slots=sum(one.slots for one in found),
        min_slots=sum(one.min or 0 for one in found),
        max_slots=sum(one.max or 0 for one in found),
        age_s=round(max(now - one.at for one in found), 3),
    )
