"""Answers about acts on many tasks: the preview, the job, its progress and its end, for pages and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from opsq.web import api, words
from opsq.web.act_handlers import by
from opsq.web.bodies import read_form, read_json
from opsq.web.bulk import MOST, PER_S, Asked, Job, Jobs, Preview, Progress, TooMuch, preview
from opsq.web.deps import Deps
from opsq.web.render import Renderer
from opsq.web.terms import parse
from opsq.web.view_common import MAX_QUERY_LENGTH, Ask, call_text
from opsq.web.view_shell import shell

VERBS: Final = tuple(PER_S)
_MOST_IDS: Final = 1_000


@dataclass(frozen=True, slots=True)
class BulkView:
    """The page of a preview. rows: the first tasks (href, short id, name, call); more: how many follow."""

    heading: str
    action: str
    cancel: str
    filter: str
    would: str
    takes: str
    left_out: tuple[str, ...]
    beware: tuple[str, ...]
    rows: tuple[tuple[str, str, str, str], ...]
    more: str
    fields: tuple[tuple[str, str], ...]
    submit: str
    possible: bool
    who: str


@dataclass(frozen=True, slots=True)
class JobView:
    """The page of a job. percent: how far it is. again: where it tells how it goes on."""

    heading: str
    running: bool
    percent: float
    sentence: str
    left_out: tuple[str, ...]
    error: str
    stop: str
    id: str
    back: str
    again: str


class BulkHandlers:
    """Answers about many tasks at once. Thread: the event loop's."""

    def __init__(self, deps: Deps, renderer: Renderer) -> None:
        self._deps = deps
        self._renderer = renderer
        self._jobs = Jobs(deps)

    async def ask(self, request: Request) -> Response:
        """Show what it would do."""
        params = request.query_params
        asked = self._asked(request, {"q": " ".join(params.getlist("q")), "ids": params.getlist("id")})
        found = await run_in_threadpool(preview, self._deps, asked, by(request))
        return await run_in_threadpool(
            self._page, "pages/bulk.html", "Preview", request, self._view(found, request.state.visitor.name)
        )

    async def send(self, request: Request) -> Response:
        """Begin the job that a preview showed, and lead to its page."""
        fields = await read_form(request)
        last = {name: values[-1] for name, values in fields.items()}
        given = {"q": last.get("q", ""), "ids": fields.get("id", [])}
        given |= {name: last[name] for name in ("until", "per_s") if last.get(name)}
        asked = self._asked(request, given)
        job = await self._begin(request, asked)
        return RedirectResponse(self._deps.places.to("/bulk-job", id=job.id), status_code=303)

    async def job(self, request: Request) -> Response:
        """Show how far a job is."""
        told = self._known(request.query_params.get("id", "")).progress(self._deps.clock.now())
        return await run_in_threadpool(
            self._page, "pages/bulk_job.html", f"{told.verb} {told.state}", request, self._job_view(told)
        )

    async def stop(self, request: Request) -> Response:
        """Stop a job; what was done stays done."""
        fields = await read_form(request)
        job = self._known(fields.get("id", [""])[-1])
        job.stopping.set()
        return RedirectResponse(self._deps.places.to("/bulk-job", id=job.id), status_code=303)

    async def api_preview(self, request: Request) -> Response:
        """Answer with what it would do."""
        asked = self._asked(request, await read_json(request))
        return _json(await run_in_threadpool(preview, self._deps, asked, by(request)))

    async def api_start(self, request: Request) -> Response:
        """Begin a job; what a preview fixed, with its ``until``, or else what is there now."""
        job = await self._begin(request, self._asked(request, await read_json(request)))
        return _json(job.progress(self._deps.clock.now()), 202)

    async def api_job(self, request: Request) -> Response:
        """Answer with how far a job is."""
        return _json(self._known(request.path_params["id"]).progress(self._deps.clock.now()))

    async def api_stop(self, request: Request) -> Response:
        """Stop a job."""
        job = self._known(request.path_params["id"])
        job.stopping.set()
        return _json(job.progress(self._deps.clock.now()))

    async def _begin(self, request: Request, asked: Asked) -> Job:
        if self._deps.hands is None:
            raise HTTPException(409, "This monitor only watches")
        found = await run_in_threadpool(preview, self._deps, asked, by(request))
        fixed = msgspec.structs.replace(asked, until=found.until)
        try:
            return self._jobs.start(fixed, found.matching, by(request))
        except TooMuch as error:
            raise HTTPException(409, str(error)) from error

    def _asked(self, request: Request, given: dict[str, Any]) -> Asked:
        """Read what is asked for. Raises HTTPException 404, 422."""
        verb = request.path_params["verb"]
        if verb not in VERBS:
            raise HTTPException(404, f"There is no such act on many tasks; there are {', '.join(VERBS)}")
        try:
            asked = msgspec.convert({**given, "verb": verb}, Asked, strict=False)
        except msgspec.ValidationError as error:
            raise HTTPException(422, str(error)) from error
        if len(asked.ids) > _MOST_IDS or len(asked.q) > MAX_QUERY_LENGTH or not 0 <= (asked.until or 0) < 2**63 - 1:
            raise HTTPException(
                422, f"expected at most {_MOST_IDS} ids, and {MAX_QUERY_LENGTH} letters of a search line"
            )
        problem = api.fault(parse(asked.q, self._deps.clock.now()))
        if problem:
            # A term left out would widen what is acted on.
            raise HTTPException(422, problem)
        if not asked.q.strip() and not asked.ids:
            raise HTTPException(422, "say which tasks: a search line, or ids; all of history is never meant")
        return asked

    def _known(self, id: str) -> Job:
        job = self._jobs.get(id)
        if job is None:
            raise HTTPException(404, "No such job is remembered here; the audit tells how it ended")
        return job

    def _view(self, found: Preview, who: str) -> BulkView:
        places = self._deps.places
        share = min(found.matching, MOST)
        exact = found.looked >= share
        would = words.plural(found.would, "task")
        if not exact:
            would = f"{words.count(found.would)} of the {words.count(found.looked)} looked at"
        fields = [("q", found.q), ("until", str(found.until)), *(("id", id) for id in found.ids)]
        beware = []
        if found.matching > MOST:
            beware.append(f"At most {words.count(MOST)} tasks are worked on, the newest first.")
        if found.verb == "retry" and found.would:
            beware.append("Each is sent as a new task. If the cause of a failure is still there, it fails again.")
        return BulkView(
            heading=f"{found.verb.capitalize()} {would}", action=places.to(f"/bulk/{found.verb}"),
            cancel=places.to("/tasks", q=found.q), filter=found.q or f"{len(found.ids)} chosen",
            would=f"{would} of {'≥ ' if found.at_least else ''}{words.count(found.matching)}: "
            + (", ".join(f"{count} {name}" for name, count in found.types.items()) or "none"),
            takes=f"about {words.duration(found.about_s)}" if found.would else words.NOT_APPLICABLE,
            left_out=tuple(f"{words.count(count)}: {reason}" for reason, count in found.left_out.items()),
            beware=tuple(beware),
            rows=tuple(
                (
                    places.task(item.id), words.short_id(item.id), item.type or "unknown",
                    call_text(item.args, item.kwargs)[:120],
                )
                for item in found.first
            ),
            more=f"{words.count(found.would - len(found.first))} more" if found.would > len(found.first) else "",
            fields=tuple((name, value) for name, value in fields if value), submit=f"{found.verb.capitalize()} {would}",
            possible=found.would > 0 and self._deps.hands is not None, who=who,
        )  # fmt: skip

    def _job_view(self, told: Progress) -> JobView:
        left = f" About {words.duration(told.left_s)} left." if told.left_s else ""
        return JobView(
            heading=f"{told.verb.capitalize()}: {told.seen} of {told.total}, {told.state}",
            running=told.state == "running",
            percent=round(100 * told.seen / max(1, told.total), 1),
            sentence=f"{told.done} done, {told.failed} failed, {sum(told.left_out.values())} left out.{left}",
            left_out=tuple(f"{words.count(count)}: {reason}" for reason, count in told.left_out.items()),
            error=told.first_error, stop=self._deps.places.to("/bulk-stop"), id=told.id,
            back=self._deps.places.to("/tasks", q=told.q), again=self._deps.places.to("/bulk-job", id=told.id),
        )  # fmt: skip

    def _page(self, template: str, title: str, request: Request, view: Any) -> Response:
        deps, now = self._deps, self._deps.clock.now()
        ask = Ask("tasks", request.state.visitor)
        around = shell(title, deps.query.overview(), ask, deps.here, deps.places, live="", now=now)
        return HTMLResponse(self._renderer.write(template, {"shell": around, "view": view, "now": now}))


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value) + b"\n", status_code=status, media_type="application/json")
