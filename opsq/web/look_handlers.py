"""Answers for looks: a page (which is shown in a dialog where there is script), and the same for programs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from opsq.errors import OpsqError
from opsq.web.api_handlers import PEEK_ROWS, json_response, seen_by
from opsq.web.deps import Deps
from opsq.web.hands import Peeked
from opsq.web.looking import ask
from opsq.web.looks import LOOKS, Look
from opsq.web.render import Renderer
from opsq.web.view_common import parse_ask
from opsq.web.view_look import LookView, look_view, messages_view
from opsq.web.view_shell import shell

NOT_NOW: Final = 409


class ApiLook(msgspec.Struct, frozen=True):
    """Answer of a look: what the worker said, secrets masked and arguments of tasks left out."""

    worker: str
    look: str
    answer: Any


class LookHandlers:
    """Answers for the routes of the table of looks: ``page`` and ``api``, each with one method a look.

    Thread: the event loop's.
    """

    def __init__(self, deps: Deps, renderer: Renderer) -> None:
        self._deps = deps
        self._renderer = renderer
        self.page = SimpleNamespace(**{look.verb: self._showing(look) for look in LOOKS})
        self.api = SimpleNamespace(**{look.verb: self._programs(look) for look in LOOKS})

    async def messages(self, request: Request) -> Response:
        """Show the messages that wait in a queue."""
        return await run_in_threadpool(self._messages, request)

    def _showing(self, look: Look) -> Any:
        def write(request: Request) -> Response:
            target = request.query_params.get("target", "")
            return self._page(request, look_view(look, target, ask(self._deps, look, target), self._deps.places))

        async def show(request: Request) -> Response:
            return await run_in_threadpool(write, request)

        return show

    def _programs(self, look: Look) -> Any:
        async def answer(request: Request) -> Response:
            target = request.path_params["id"]
            found = await run_in_threadpool(ask, self._deps, look, target)
            if found.problem:
                raise HTTPException(NOT_NOW, found.problem)
            return json_response(ApiLook(target, look.verb, found.value))

        return answer

    def _messages(self, request: Request) -> Response:
        deps, target = self._deps, request.query_params.get("target", "")
        found, problem = tuple[Peeked, ...](), "this monitor only watches" if deps.hands is None else ""
        if deps.hands is not None:
            try:
                found = tuple(seen_by(each, request.state.visitor) for each in deps.hands.peek(target, PEEK_ROWS))
            except OpsqError as error:
                problem = str(error)[:500]
        return self._page(request, messages_view(target, found, problem, deps.places))

    def _page(self, request: Request, view: LookView) -> Response:
        deps, now = self._deps, self._deps.clock.now()
        asked = parse_ask("look", {}, request.cookies, visitor=request.state.visitor)
        title = f"{view.heading}, {view.target}"
        around = shell(title, deps.query.overview(), asked, deps.here, deps.places, live="", now=now)
        return HTMLResponse(self._renderer.write("pages/look.html", {"shell": around, "view": view, "now": now}))
