"""Answers for programs: everything below ``/api/v1`` that reads. Acts are ``act_handlers``, many at once ``bulk``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from opsq.events.diagnosis.explained import explained
from opsq.events.records import QueueItem, TaskItem
from opsq.web import api, facts, hiding
from opsq.web.access.door import Visitor
from opsq.web.deps import Deps
from opsq.web.export import TASK_COLUMNS, as_file, chosen_chunks, task_chunks
from opsq.web.hands import Hands, Peeked, SetAside
from opsq.web.live import CLOSING, HEARTBEAT, IDLE_TICK_S, OPENING, event
from opsq.web.page_why import API_S, of_task
from opsq.web.terms import Filter, parse
from opsq.web.view_common import Ask, parse_ask

PEEK_ROWS: Final = 20
MOST_PEEKED: Final = 100
QUARANTINE_ROWS: Final = 1_000
MOST_CHOSEN: Final = 1_000
QUIET_TICKS: Final = 15


class ApiQueues(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/queues``."""

    queues: tuple[QueueItem, ...]


class ApiMessages(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/queues/{id}/messages``: the oldest that wait. They are put back, and may change order."""

    messages: tuple[Peeked, ...]


class ApiQuarantine(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/quarantine``, oldest first."""

    messages: tuple[SetAside, ...]


class ApiVisitor(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/me``: who asks, and what they may do."""

    name: str
    how: str
    grants: tuple[str, ...]


class ApiHandlers:
    """Answers that read. Thread: the event loop's; the store and the broker are asked in threads."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def overview(self, request: Request) -> Response:
        """Answer with counts, queues and workers."""
        return await answer(lambda: facts.api_overview(self._deps))

    async def tasks(self, request: Request) -> Response:
        """Answer with a page of tasks; a search line that cannot be read is an error here."""
        asked, ask = self._asked(request)
        return await answer(lambda: api.tasks(*facts.task_page(self._deps, asked, ask)))

    async def task(self, request: Request) -> Response:
        """Answer with one task, or 404."""
        found = await run_in_threadpool(facts.task, self._deps, request.path_params["id"], request.state.visitor)
        if found is None:
            raise HTTPException(404, "No such task is known here")
        return json_response(api.ApiTask(found))

    async def why(self, request: Request) -> Response:
        """Answer with the diagnosis of one task, or 404."""
        found = await run_in_threadpool(facts.task, self._deps, request.path_params["id"], request.state.visitor)
        if found is None:
            raise HTTPException(404, "No such task is known here")
        return await answer(lambda: explained(of_task(self._deps, found, self._deps.clock.now(), API_S)))

    async def workers(self, request: Request) -> Response:
        """Answer with the workers."""
        return await answer(lambda: api.ApiWorkers(facts.workers(self._deps)))

    async def queues(self, request: Request) -> Response:
        """Answer with the queues."""
        return await answer(lambda: ApiQueues(facts.queues(self._deps)))

    async def types(self, request: Request) -> Response:
        """Answer with the task types of a range."""
        ask = parse_ask("types", request.query_params, {})
        return await answer(lambda: api.ApiTypes(ask.range.length_s, facts.task_types(self._deps, ask.range)))

    async def messages(self, request: Request) -> Response:
        """Answer with the oldest messages that wait in a queue."""
        limit = request.query_params.get("limit", "")
        most = min(int(limit), MOST_PEEKED) if limit.isdecimal() and len(limit) < 6 else PEEK_ROWS
        found = await run_in_threadpool(self._hands.peek, request.path_params["id"], max(1, most))
        return json_response(ApiMessages(tuple(seen_by(each, request.state.visitor) for each in found)))

    async def quarantine(self, request: Request) -> Response:
        """Answer with what was set aside."""
        found = await run_in_threadpool(self._hands.quarantined, QUARANTINE_ROWS)
        visitor = request.state.visitor
        return json_response(ApiQuarantine(tuple(evidence_by(each, visitor) for each in found)))

    async def me(self, request: Request) -> Response:
        """Answer with who asks."""
        visitor = request.state.visitor
        return json_response(ApiVisitor(visitor.name, visitor.how, tuple(sorted(visitor.grants))))

    async def csv(self, request: Request) -> Response:
        """Answer with the tasks under a filter, or of some ids, as CSV."""
        return as_file("opsq-tasks", "csv", TASK_COLUMNS, self._wanted(request))

    async def jsonl(self, request: Request) -> Response:
        """Answer with the tasks under a filter, or of some ids, as JSON lines."""
        return as_file("opsq-tasks", "jsonl", TASK_COLUMNS, self._wanted(request))

    async def events(self, request: Request) -> Response:
        """Answer with a stream that tells which tasks changed."""
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        parts = self._deps.gate.limited(request.state.visitor, changes(self._deps))
        return StreamingResponse(parts, media_type="text/event-stream", headers=headers)

    def _wanted(self, request: Request) -> Iterator[tuple[TaskItem, ...]]:
        ids = list(dict.fromkeys(request.query_params.getlist("id")))
        if len(ids) > MOST_CHOSEN:
            raise HTTPException(400, f"id: expected at most {MOST_CHOSEN}")
        if ids:
            return chosen_chunks(self._deps, ids, request.state.visitor)
        asked, ask = self._asked(request)
        return task_chunks(self._deps, asked, ask.visitor)

    def _asked(self, request: Request) -> tuple[Filter, Ask]:
        params = dict(request.query_params)
        params["q"] = " ".join(request.query_params.getlist("q"))
        ask = parse_ask("tasks", params, {}, visitor=request.state.visitor)
        asked = hiding.asked_by(parse(ask.q, self._deps.clock.now()), ask.visitor)
        problem = api.fault(asked)
        if problem:
            raise HTTPException(400, problem)
        return asked, ask

    @property
    def _hands(self) -> Hands:
        if self._deps.hands is None:
            raise HTTPException(409, "This monitor only watches")
        return self._deps.hands


async def changes(deps: Deps) -> AsyncIterator[str]:
    """Yield what changes as server-sent events named ``change``; a slow reader gets changes merged, never a backlog."""
    yield OPENING
    quiet = 0
    async with deps.feed.subscribe() as news:
        while not deps.stopping.is_set() and not news.ended:
            change = await news.next(IDLE_TICK_S)
            quiet += 1
            if change is not None:
                data = {
                    "version": change.version, "tasks": sorted(change.tasks), "regions": sorted(change.regions),
                    "everything": change.everything,
                }  # fmt: skip
                yield event(msgspec.json.encode(data).decode(), name="change", id=str(change.version))
                quiet = 0
            elif quiet >= QUIET_TICKS:
                yield HEARTBEAT
                quiet = 0
    yield CLOSING


def seen_by(message: Peeked, visitor: Visitor) -> Peeked:
    """A waiting message as the visitor may see it."""
    if hiding.sees_payload(visitor):
        return message
    return msgspec.structs.replace(
        message, args=message.args and hiding.HIDDEN, kwargs=message.kwargs and hiding.HIDDEN, body=hiding.HIDDEN
    )


def evidence_by(message: SetAside, visitor: Visitor) -> SetAside:
    """A message that was set aside, as the visitor may see it: its reason may quote what it could not read."""
    if hiding.sees_payload(visitor):
        return message
    return msgspec.structs.replace(message, reason=hiding.HIDDEN)


async def answer(read: Callable[[], Any]) -> Response:
    """Read in a thread and answer with JSON."""
    return json_response(await run_in_threadpool(read))


def json_response(value: Any, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(msgspec.json.encode(value) + b"\n", status_code=status, media_type="application/json")
