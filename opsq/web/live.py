"""Live pages: one stream of server-sent events per open page, carrying only what changed.

Bridge between threads and asyncio: the feed wakes the stream, a thread reads the monitor and writes the
fragments. A session remembers what its browser already shows, so an unchanged region costs nothing to send.
A slow browser gets the newest state when it is ready, never a backlog.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Final

from starlette.concurrency import run_in_threadpool

from opsq.errors import OpsqError
from opsq.web.deps import Deps
from opsq.web.pages import Made, Page, make_page
from opsq.web.render import Renderer
from opsq.web.row_diff import RowChanges, RowDiff
from opsq.web.view_common import Ask
from opsq.web.view_tasks import TaskRow

# The writer announces four times a second at most; this only keeps two announcements from becoming two messages.
LEAST_GAP_S: Final = 0.1
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

    def __init__(self, page: Page, deps: Deps, renderer: Renderer, ask: Ask) -> None:
        self._page = page
        self._deps = deps
        self._renderer = renderer
        self._ask = ask
        self._sent: dict[str, bytes] = {}
        self._due: dict[str, float] = {}
        self._rows = RowDiff() if page.has_rows else None
        self._version = 0

    def messages(self) -> str:
        """Read the monitor and write the events for what changed since the last call; empty when nothing did."""
        made = make_page(self._page, self._deps, self._ask)
        parts = self._changed_regions(made)
        whole_list = ""
        if self._rows is not None:
            changes = self._rows.changes(made.view.rows, made.now)
            parts += [self._row(row, changes, made) for row in changes.in_place]
            if changes.whole:
                whole_list = self._renderer.write(ROWS_TEMPLATE, {**made.context(), "fresh_ids": changes.fresh})
        self._version += 1
        text = event("".join(parts), id=str(self._version)) if parts else ""
        # Named, not swapped: the page itself decides when rows may come and go under the reader's hand.
        return text + (event(whole_list, name="list") if whole_list else "")

    def _changed_regions(self, made: Made) -> list[str]:
        parts = []
        for region in self._page.regions:
            if made.now < self._due.get(region.id, 0.0):
                continue
            self._due[region.id] = made.now + region.every_s * 0.9
            html = self._renderer.write(region.template, made.context())
            digest = hashlib.blake2s(html.encode(), digest_size=12).digest()
            if self._sent.get(region.id) != digest:
                self._sent[region.id] = digest
                parts.append(partial(region.id, html))
        return parts

    def _row(self, row: TaskRow, changes: RowChanges, made: Made) -> str:
        context = {**made.context(), "row": row, "fresh": changes.fresh.get(row.id, "")}
        return partial(row.id, self._renderer.write(ROW_TEMPLATE, context))


def partial(target: str, html: str) -> str:
    """Wrap a fragment so that the page morphs the element of that id into it. target: an id of our own making."""
    return f'<hx-partial hx-target="#{target}" hx-swap="outerMorph">{html}</hx-partial>'


def event(data: str, *, name: str = "", id: str = "") -> str:
    """Write one server-sent event; every line of data gets its own field, as the format asks."""
    head = (f"id: {id}\n" if id else "") + (f"event: {name}\n" if name else "")
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return head + "".join(f"data: {line}\n" for line in lines) + "\n"


async def stream(session: Session, deps: Deps) -> AsyncIterator[str]:
    """Yield a page's events until the browser leaves or the monitor stops. Thread: the event loop's."""
    loop = asyncio.get_running_loop()
    yield OPENING
    async with deps.feed.subscribe() as news:
        spoke_at = loop.time()
        while not deps.stopping.is_set() and not news.ended:
            text = await run_in_threadpool(_try_messages, session)
            if text:
                yield text
                spoke_at = loop.time()
            elif loop.time() - spoke_at > HEARTBEAT_S:
                yield HEARTBEAT
                spoke_at = loop.time()
            await news.next(IDLE_TICK_S)
            await asyncio.sleep(max(0.0, spoke_at + LEAST_GAP_S - loop.time()))
    yield CLOSING


def _try_messages(session: Session) -> str:
    try:
        return session.messages()
    except OpsqError:
        # The store is away: the page keeps its numbers, its banner tells since when, the next tick tries again.
        return ""
