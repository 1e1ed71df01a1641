"""What answers each URL. Handlers read through a thread, because the store may block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from opsq.web.act_handlers import ActHandlers
from opsq.web.api_handlers import ApiHandlers
from opsq.web.assets import Assets
from opsq.web.audit_handlers import AuditHandlers
from opsq.web.bulk_handlers import BulkHandlers
from opsq.web.deps import Deps
from opsq.web.docs_handlers import DocsHandlers
from opsq.web.health import HealthHandlers
from opsq.web.live import Session, stream, try_messages
from opsq.web.look_handlers import LookHandlers
from opsq.web.metrics_page import MetricsPage
from opsq.web.metrics_reading import reading
from opsq.web.moments import Moments
from opsq.web.openapi import Described
from opsq.web.pages import PAGES, Page, make_page, page_named
from opsq.web.render import Renderer
from opsq.web.scaling_handlers import ScalingHandlers
from opsq.web.sign_in import SignIn
from opsq.web.terms import parse
from opsq.web.view_common import Ask, parse_ask

Handler = Callable[[Request], Awaitable[Response]]


class Handlers:
    """Answers for every route. Thread: the event loop's."""

    def __init__(self, deps: Deps, assets: Assets, renderer: Renderer, described: Sequence[Described]) -> None:
        self._deps = deps
        self._assets = assets
        self._renderer = renderer
        self.signing = SignIn(deps, renderer)
        self.acts = ActHandlers(deps, renderer)
        self.looks = LookHandlers(deps, renderer)
        self.audit = AuditHandlers(deps, renderer)
        self.health = HealthHandlers(deps)
        self.api = ApiHandlers(deps)
        self.scaling = ScalingHandlers(deps)
        self.bulk = BulkHandlers(deps, renderer)
        self.docs = DocsHandlers(deps, renderer, described)
        self.page = SimpleNamespace(**{page.name: self._showing(page.name) for page in PAGES})
        self._moments = Moments(deps, renderer)
        self._metrics = MetricsPage(lambda: reading(deps), deps.metrics_names)

    async def overview_page(self, request: Request) -> Response:
        """Answer with the overview."""
        return await self._page(request, "overview")

    async def tasks_page(self, request: Request) -> Response:
        """Answer with the task list; a whole id in the search line leads straight to its task."""
        asked = parse(ask_of(request, "tasks").q, self._deps.clock.now())
        if asked.text and not asked.terms and not asked.fault and " " not in asked.text:
            found = await run_in_threadpool(self._deps.query.task, asked.text)
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
        session = Session(page, self._deps, self._moments, ask_of(request, page.name))
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        first = await run_in_threadpool(try_messages, session)
        parts = self._deps.gate.limited(request.state.visitor, stream(session, self._deps, first))
        return StreamingResponse(parts, media_type="text/event-stream", headers=headers)

    def _showing(self, name: str) -> Handler:
        async def show(request: Request) -> Response:
            return await self._page(request, name)

        return show

    async def _page(self, request: Request, name: str) -> Response:
        page = page_named(name)
        assert page is not None, f"no page {name!r} in PAGES"
        html = await run_in_threadpool(self._write, page, ask_of(request, name))
        return HTMLResponse(html)

    def _write(self, page: Page, ask: Ask) -> str:
        made = make_page(page, self._deps, ask)
        return self._renderer.write(page.template, {**made.context(), "fresh_ids": {}})

    async def metrics(self, request: Request) -> Response:
        """Answer a scraper in the format it asks for."""
        body, content_type = await run_in_threadpool(self._metrics.answer, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    async def static(self, request: Request) -> Response:
        """Answer with a static file."""
        return self._assets.respond(request)


def ask_of(request: Request, page: str) -> Ask:
    """Read what a request asks for; the search line may come in pieces, one ``q`` a chip."""
    params = dict(request.query_params)
    params["q"] = " ".join(request.query_params.getlist("q"))
    shown = page_named(page)
    task_id = (request.path_params.get("id") or params.get("id", "")) if shown and shown.keyed else ""
    return parse_ask(page, params, request.cookies, task_id, request.state.visitor)
