"""Live pages: one stream of server-sent events per open page, carrying only what changed.

Bridge between threads and asyncio: the feed wakes the stream, a thread reads the monitor and writes the
fragments. A session remembers what its browser already shows, so an unchanged region costs nothing to send.
A slow browser gets the newest state when it is ready, never a backlog.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from opsq.errors import OpsqError
from opsq.web.deps import Deps
from opsq.web.moments import Moment, Moments
from opsq.web.pages import Page
from opsq.web.row_diff import RowChanges, RowDiff
from opsq.web.view_common import Ask
from opsq.web.view_tasks import TaskRow

#: A busy monitor announces ten times a second, and nobody sees so fast.
LEAST_GAP_S: Final = 0.2
IDLE_TICK_S: Final = 1.0
HEARTBEAT_S: Final = 15.0
RECONNECT_MS: Final = 2000
ROW_TEMPLATE: Final = "regions/task_row.html"
ROWS_TEMPLATE: Final = "regions/task_rows.html"

OPENING: Final = f"retry: {RECONNECT_MS}\n: open\n\n"
CLOSING: Final = f"retry: {RECONNECT_MS}\n: the monitor stops\n\n"
HEARTBEAT: Final = ": still here\n\n"


class Session:
    """What one browser shows of one page, and what to send it next. Thread: any, one call at a time."""

    def __init__(self, page: Page, deps: Deps, moments: Moments, ask: Ask) -> None:
        self._page = page
        self._deps = deps
        self._moments = moments
        self._ask = ask
        #: Something changed since what was sent last was read.
        self.behind = False
        self._sent: dict[str, bytes] = {}
        self._due: dict[str, float] = {}
        self._rows = RowDiff() if page.has_rows else None
        self._version = 0

    def messages(self) -> str:
        """Read the monitor and write the events for what changed since the last call; empty when nothing did."""
        moment = self._moments.now(self._page, self._ask)
        parts = self._changed_regions(moment)
        whole_list = ""
        if self._rows is not None:
            changes = self._rows.changes(moment.made.view.rows, moment.made.now)
            parts += [_row(row, changes, moment) for row in changes.in_place]
            if changes.whole:
                key = tuple(changes.fresh.items())
                whole_list, _ = moment.write(ROWS_TEMPLATE, key, fresh_ids=changes.fresh)
        self.behind = moment.version != self._deps.feed.version
        self._version += 1
        text = event("".join(parts), id=str(self._version)) if parts else ""
        # Named, not swapped: the page itself decides when rows may come and go under the reader's hand.
        return text + (event(whole_list, name="list") if whole_list else "")

    def _changed_regions(self, moment: Moment) -> list[str]:
        parts, now = [], moment.made.now
        for region in self._page.regions:
            if now < self._due.get(region.id, 0.0):
                continue
            self._due[region.id] = now + region.every_s * 0.9
            html, digest = moment.write(region.template)
            if self._sent.get(region.id) != digest:
                self._sent[region.id] = digest
                parts.append(partial(region.id, html))
        return parts


def _row(row: TaskRow, changes: RowChanges, moment: Moment) -> str:
    fresh = changes.fresh.get(row.id, "")
    html, _ = moment.write(ROW_TEMPLATE, (row.id, fresh), row=row, fresh=fresh)
    return partial(row.id, html)


def partial(target: str, html: str) -> str:
    """Wrap a fragment so that the page morphs the element of that id into it. target: an id of our own making."""
    return f'<hx-partial hx-target="#{target}" hx-swap="outerMorph">{html}</hx-partial>'


def event(data: str, *, name: str = "", id: str = "") -> str:
    """Write one server-sent event; every line of data gets its own field, as the format asks."""
    head = (f"id: {id}\n" if id else "") + (f"event: {name}\n" if name else "")
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return head + "".join(f"data: {line}\n" for line in lines) + "\n"


async def stream(session: Session, deps: Deps, first: str | None = None) -> AsyncIterator[str]:
    """Yield a page's events until the browser leaves, the monitor stops, or what the page is about is gone.

    first: the first messages, when they were made already. Thread: the event loop's.
    """
    loop = asyncio.get_running_loop()
    yield OPENING
    async with deps.feed.subscribe() as news:
        spoke_at = loop.time()
        while not deps.stopping.is_set() and not news.ended:
            looked_at = loop.time()
            try:
                text = await run_in_threadpool(try_messages, session) if first is None else first
            except HTTPException:
                break  # asked for again, it is said to be gone
            first = None
            if text:
                yield text
                spoke_at = loop.time()
            elif loop.time() - spoke_at > HEARTBEAT_S:
                yield HEARTBEAT
                spoke_at = loop.time()
            if not session.behind:
                await news.next(IDLE_TICK_S)
            await asyncio.sleep(max(0.0, looked_at + LEAST_GAP_S - loop.time()))
    yield CLOSING


def try_messages(session: Session) -> str:
    """Write what changed, empty while the store is away. Raises HTTPException 404 when there is no such thing."""
    try:
        return session.messages()
    except OpsqError:
        # The store is away: the page keeps its numbers, its banner tells since when, the next tick tries again.
        return ""
