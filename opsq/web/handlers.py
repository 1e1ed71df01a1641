"""What answers each URL. Handlers read through a thread, because the store may block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from opsq.web import api, facts
from opsq.web.assets import Assets
from opsq.web.deps import Deps
from opsq.web.live import Session, stream
from opsq.web.metrics import MonitorCollector
from opsq.web.pages import Page, make_page, page_named
from opsq.web.render import Renderer
from opsq.web.sign_in import SignIn
from opsq.web.terms import parse
from opsq.web.view_common import Ask, parse_ask

Handler = Callable[[Request], Awaitable[Response]]


class Handlers:
    """Answers for every route. Thread: the event loop's."""

    def __init__(self, deps: Deps, assets: Assets, renderer: Renderer) -> None:
        self._deps = deps
        self._assets = assets
        self._renderer = renderer
        self.signing = SignIn(deps, renderer)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(MonitorCollector(lambda: facts.scrape(deps)))

    async def overview_page(self, request: Request) -> Response:
        """Answer with the overview."""
        return await self._page(request, "overview")

    async def tasks_page(self, request: Request) -> Response:
        """Answer with the task list; a whole id in the search line leads straight to its task."""
        asked = parse(ask_of(request, "tasks").q, self._deps.clock.now())
        if asked.text and not asked.terms and not asked.fault and " " not in asked.text:
            found = await run_in_threadpool(facts.task, self._deps, asked.text)
            if found is not None:
                return RedirectResponse(self._deps.places.task(asked.text), status_code=303)
        return await self._page(request, "tasks")

    async def task_page(self, request: Request) -> Response:
        """Answer with one task, or 404."""
        return await self._page(request, "task")

    async def workers_page(self, request: Request) -> Response:
        """Answer with the workers."""
        return await self._page(request, "workers")

    async def types_page(self, request: Request) -> Response:
        """Answer with the task types."""
        return await self._page(request, "types")

    async def live(self, request: Request) -> Response:
        """Answer with the stream of a page."""
        page = page_named(request.path_params["page"])
        if page is None:
            raise HTTPException(404, "There is no such live page")
        session = Session(page, self._deps, self._renderer, ask_of(request, page.name))
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream(session, self._deps), media_type="text/event-stream", headers=headers)

    async def _page(self, request: Request, name: str) -> Response:
        page = page_named(name)
        assert page is not None, f"no page {name!r} in PAGES"
        html = await run_in_threadpool(self._write, page, ask_of(request, name))
        return HTMLResponse(html)

    def _write(self, page: Page, ask: Ask) -> str:
        made = make_page(page, self._deps, ask)
        return self._renderer.write(page.template, {**made.context(), "fresh_ids": {}})

    async def api_overview(self, request: Request) -> Response:
        """Answer with counts, queues and workers."""
        return await self._json(lambda: facts.api_overview(self._deps))

    async def api_tasks(self, request: Request) -> Response:
        """Answer with a page of tasks; a search line that cannot be read is an error here."""
        ask = ask_of(request, "tasks")
        asked = parse(ask.q, self._deps.clock.now())
        problem = api.fault(asked)
        if problem:
            raise HTTPException(400, problem)
        return await self._json(lambda: api.tasks(*facts.task_page(self._deps, asked, ask)))

    async def api_task(self, request: Request) -> Response:
        """Answer with one task, or 404."""
        found = await run_in_threadpool(facts.task, self._deps, request.path_params["id"])
        if found is None:
            raise HTTPException(404, "No such task is known here")
        return json_response(api.ApiTask(found))

    async def api_workers(self, request: Request) -> Response:
        """Answer with the workers."""
        return await self._json(lambda: api.ApiWorkers(facts.workers(self._deps)))

    async def api_types(self, request: Request) -> Response:
        """Answer with the task types of a range."""
        ask = ask_of(request, "types")
        return await self._json(lambda: api.ApiTypes(ask.range.length_s, facts.task_types(self._deps, ask.range)))

    async def _json(self, read: Callable[[], Any]) -> Response:
        return json_response(await run_in_threadpool(read))

    async def metrics(self, request: Request) -> Response:
        """Answer a scraper in the format it asks for."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        body = await run_in_threadpool(encode, self._registry)
        return Response(body, headers={"Content-Type": content_type})

    async def healthz(self, request: Request) -> Response:
        """Answer 200 while this process serves; it never depends on the broker or the store."""
        return json_response({"status": "live"})

    async def readyz(self, request: Request) -> Response:
        """Answer 200 when events arrive and are kept, otherwise 503 with what is missing."""
        fresh = await run_in_threadpool(self._deps.query.freshness)
        missing = [] if fresh.connected else [f"the broker is not heard: {fresh.stale_reason or 'not connected yet'}"]
        if fresh.store_failing_since_at is not None:
            missing.append(f"history is not kept: {fresh.store_error}")
        body = {"status": "not ready" if missing else "ready", "missing": missing}
        return json_response(body, 503 if missing else 200)

    async def static(self, request: Request) -> Response:
        """Answer with a static file."""
        return self._assets.respond(request)


def ask_of(request: Request, page: str) -> Ask:
    """Read what a request asks for; the search line may come in pieces, one ``q`` a chip."""
    params = dict(request.query_params)
    params["q"] = " ".join(request.query_params.getlist("q"))
    task_id = request.path_params.get("id", "") if page == "task" else ""
    task_id = task_id or (params.get("id", "") if page == "task" else "")
    return parse_ask(page, params, request.cookies, task_id, request.state.visitor)


def json_response(value: Any, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(msgspec.json.encode(value) + b"\n", status_code=status, media_type="application/json")
