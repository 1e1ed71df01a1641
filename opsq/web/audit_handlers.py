"""Answers about the audit: its page, and the same for programs and as a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from opsq.web import words
from opsq.web.act_view import target_href, text_of
from opsq.web.acts import BY_NAME
from opsq.web.audit import Checked, Kept, Trail
from opsq.web.deps import Deps
from opsq.web.export import AUDIT_COLUMNS, as_file, audit_chunks
from opsq.web.render import Renderer
from opsq.web.view_common import Ask, Link, Places, parse_ask
from opsq.web.view_shell import shell

PAGE_ROWS: Final = 100
_FACES: Final = {"done": "ok", "failed": "failed", "refused": "revoked"}


class ApiAudit(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/audit``. older: pass it as ``before`` for the next page; null at the end."""

    entries: tuple[Kept, ...]
    older: str | None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One act in words. act: its name; said: as the pages call it. face: css and icon of its outcome."""

    id: str
    at: float
    who: str
    source: str
    act: str
    said: str
    target: str
    href: str
    face: str
    outcome: str
    message: str
    asked: str
    before: str
    intact: bool


@dataclass(frozen=True, slots=True)
class AuditView:
    """The page of the audit. verdict: whether what was checked holds; bad: it does not."""

    rows: tuple[AuditRow, ...]
    verdict: str
    bad: bool
    older: str
    newest: str
    check: str
    files: tuple[Link, ...]


class AuditHandlers:
    """Answers about the audit. Thread: the event loop's."""

    def __init__(self, deps: Deps, renderer: Renderer) -> None:
        self._deps = deps
        self._renderer = renderer

    async def page(self, request: Request) -> Response:
        """Show who did what; with ``check`` the whole chain is checked."""
        return await run_in_threadpool(self._page, request)

    async def api(self, request: Request) -> Response:
        """Answer with a page of entries."""
        ask = parse_ask("audit", request.query_params, {})
        found = await run_in_threadpool(self._trail.page, ask.before, ask.limit or PAGE_ROWS)
        older = str(found[-1].id) if len(found) == (ask.limit or PAGE_ROWS) else None
        return _json(ApiAudit(found, older))

    async def api_check(self, request: Request) -> Response:
        """Answer whether the audit is whole."""
        return _json(await run_in_threadpool(self._trail.check))

    async def csv(self, request: Request) -> Response:
        """Answer with all of it as CSV."""
        return as_file("opsq-audit", "csv", AUDIT_COLUMNS, audit_chunks(self._trail.walk()))

    async def jsonl(self, request: Request) -> Response:
        """Answer with all of it as JSON lines, hashes included, so that it can be checked elsewhere."""
        return as_file("opsq-audit", "jsonl", AUDIT_COLUMNS, audit_chunks(self._trail.walk()))

    @property
    def _trail(self) -> Trail:
        if self._deps.trail is None:
            raise HTTPException(404, "This monitor keeps no audit")
        return self._deps.trail

    def _page(self, request: Request) -> Response:
        deps, now = self._deps, self._deps.clock.now()
        ask = parse_ask("audit", request.query_params, request.cookies, visitor=request.state.visitor)
        found = self._trail.page(ask.before, PAGE_ROWS)
        checked = self._trail.check() if "check" in request.query_params else None
        view = audit_view(found, checked, ask, deps.places)
        around = shell("Audit", deps.query.overview(), ask, deps.here, deps.places, live="", now=now)
        html = self._renderer.write("pages/audit.html", {"shell": around, "view": view, "now": now})
        return HTMLResponse(html)


def audit_view(found: tuple[Kept, ...], checked: Checked | None, ask: Ask, places: Places) -> AuditView:
    """Build the page of the audit. Pure."""
    verdict, bad = _verdict(found, checked)
    to = places.to
    return AuditView(
        rows=tuple(_row(kept, places) for kept in found),
        verdict=verdict,
        bad=bad,
        older=to("/audit", before=str(found[-1].id)) if len(found) == PAGE_ROWS else "",
        newest=to("/audit") if ask.before is not None else "",
        check=to("/audit", check="all"),
        files=(Link("CSV", to("/api/v1/audit.csv")), Link("JSON lines", to("/api/v1/audit.jsonl"))),
    )


def _verdict(found: tuple[Kept, ...], checked: Checked | None) -> tuple[str, bool]:
    if checked is not None:
        entries = words.plural(checked.entries, "entry", "entries")
        which = f"All {entries} were" if checked.complete else f"The newest {entries} were"
        if checked.broken:
            ids = ", ".join(str(id) for id in checked.broken[:5])
            return f"{which} checked; {len(checked.broken)} do not fit the chain, such as {ids}.", True
        return f"{which} checked against their hashes and links; nothing was changed or taken out.", False
    wrong = sum(not kept.intact for kept in found)
    if wrong:
        return f"{words.plural(wrong, 'entry', 'entries')} below were changed after they were written.", True
    return "", False


def _row(kept: Kept, places: Places) -> AuditRow:
    entry = kept.entry
    act = BY_NAME.get(entry.act)
    labels = {field.name: field.label for field in act.fields} if act is not None else {}
    asked = ", ".join(f"{labels.get(name, name)}: {text_of(value, name)}" for name, value in entry.values.items())
    before = ", ".join(f"{name} {text_of(value, name)}" for name, value in entry.before.items() if value is not None)
    return AuditRow(
        id=f"a{kept.id}", at=entry.at, who=entry.who or "nobody", source=entry.source, act=entry.act,
        said=_said(entry.act),
        target=entry.target, href=target_href(act.of, entry.target, places) if act is not None and entry.target else "",
        face=_FACES.get(entry.outcome, "unknown"), outcome=entry.outcome or "unreadable", message=entry.message,
        asked=asked, before=before, intact=kept.intact,
    )  # fmt: skip


def _said(name: str) -> str:
    """An act as the pages call it; of one on many tasks what it does to each."""
    act = BY_NAME.get(name)
    if act is not None:
        return f"{act.label}, {act.of}"
    single = BY_NAME.get(name.replace("tasks-", "task-", 1))
    return f"{single.label}, many tasks" if single is not None else name.replace("-", " ").capitalize()


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value) + b"\n", media_type="application/json")
