"""Answers for acts: the form that asks, the form that was sent, the outcome, and the same for programs."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from opsq.web.access.gate import address_of
from opsq.web.act_fields import WrongField
from opsq.web.act_records import Act
from opsq.web.act_view import form, outcome
from opsq.web.acting import CONFIRM, NO_ERROR, By, Did, look, note_refusal, perform, status_of, why_not
from opsq.web.acts import ACTS
from opsq.web.audit import Entry
from opsq.web.bodies import read_form, read_json
from opsq.web.deps import Deps
from opsq.web.render import Renderer
from opsq.web.view_common import Ask
from opsq.web.view_shell import shell


class ActHandlers:
    """Answers for the routes of the table of acts: ``ask``, ``send`` and ``api``, each with one method an act.

    Thread: the event loop's.
    """

    def __init__(self, deps: Deps, renderer: Renderer) -> None:
        self._deps = deps
        self._renderer = renderer
        self.ask = SimpleNamespace(**{key_of(act): self._asking(act) for act in ACTS})
        self.send = SimpleNamespace(**{key_of(act): self._sending(act) for act in ACTS})
        self.api = SimpleNamespace(**{key_of(act): self._programs(act) for act in ACTS})

    async def outcome(self, request: Request) -> Response:
        """Show how an act ended, to the one who did it and to those who may read the audit."""
        trail, visitor = self._deps.trail, request.state.visitor
        entry = trail.recent(request.query_params.get("of", "")) if trail is not None else None
        if entry is None or (entry.who != visitor.name and "audit" not in visitor.grants):
            raise HTTPException(404, "No such act is remembered here; the audit has all of them")
        return await run_in_threadpool(self._outcome_page, request, entry)

    async def refused(self, act: Act, request: Request, error: HTTPException) -> None:
        """Write down that the gate did not let somebody through to an act."""
        target = request.path_params.get("id") or request.query_params.get("target", "")
        await run_in_threadpool(note_refusal, self._deps, act.name, target, by(request), error.detail)

    def _asking(self, act: Act) -> Any:
        async def ask(request: Request) -> Response:
            target = request.query_params.get("target", "")
            # What a link fills in is shown and still has to be sent; arguments never come from a link.
            open_fields = {field.name for field in act.fields if not field.private}
            given = {name: value for name, value in request.query_params.items() if name in open_fields}
            return await run_in_threadpool(self._form_page, act, target, request, given, {})

        return ask

    def _sending(self, act: Act) -> Any:
        async def send(request: Request) -> Response:
            fields = {name: values[-1] for name, values in (await read_form(request)).items()}
            target = fields.pop("target", "")
            try:
                did = await run_in_threadpool(perform, self._deps, act, target, fields, by(request))
            except WrongField as error:
                return await run_in_threadpool(self._form_page, act, target, request, fields, error.faults)
            if not did.audit:
                return await run_in_threadpool(self._outcome_page, request, _unkept(did))
            return RedirectResponse(self._deps.places.to("/act-outcome", of=did.audit), status_code=303)

        return send

    def _programs(self, act: Act) -> Any:
        async def do(request: Request) -> Response:
            given = await read_json(request)
            try:
                did = await run_in_threadpool(perform, self._deps, act, request.path_params["id"], given, by(request))
            except WrongField as error:
                raise HTTPException(422, str(error)) from error
            return Response(msgspec.json.encode(did) + b"\n", status_code=status_of(did), media_type="application/json")

        return do

    def _form_page(
        self, act: Act, target: str, request: Request, given: Mapping[str, str], faults: Mapping[str, str]
    ) -> Response:
        deps, visitor = self._deps, request.state.visitor
        seen = look(deps, act, target)
        if act.of == "task" and seen.task is None and act.verb != "revoke":
            raise HTTPException(404, "No such task is known here")
        if seen.unknown_error:
            raise HTTPException(404, NO_ERROR)
        view = form(act, seen, why_not(deps, act, seen), given, faults, visitor, deps.places)
        return self._page("pages/act.html", f"{act.label} {view.short}", request, view, 400 if faults else 200)

    def _outcome_page(self, request: Request, entry: Entry) -> Response:
        view = outcome(entry, self._deps.places)
        return self._page("pages/act_outcome.html", view.heading, request, view, 200)

    def _page(self, template: str, title: str, request: Request, view: Any, status: int) -> Response:
        deps, now = self._deps, self._deps.clock.now()
        ask = Ask("act", request.state.visitor, theme=_cookie(request, "opsq_theme", ("light", "dark")))
        around = shell(title, deps.query.overview(), ask, deps.here, deps.places, live="", now=now)
        html = self._renderer.write(template, {"shell": around, "view": view, "now": now, "confirm": CONFIRM})
        return HTMLResponse(html, status_code=status)


def key_of(act: Act) -> str:
    """The name of an act as an attribute."""
    return act.name.replace("-", "_")


def by(request: Request) -> By:
    """Who sent a request."""
    return By(request.state.visitor, address_of(request))


def _cookie(request: Request, name: str, known: tuple[str, ...]) -> str:
    value = request.cookies.get(name, "")
    return value if value in known else ""


def _unkept(did: Did) -> Entry:
    return Entry(
        at=0.0, who="", how="", source="", act=did.act, target=did.target, outcome=did.outcome, message=did.message,
        after=did.after,
    )  # fmt: skip
