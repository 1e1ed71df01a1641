"""Lists as files: streamed page by page, so that a million rows need the memory of one page. CSV and JSON lines.

A spreadsheet runs what begins with ``=``, ``+``, ``-`` or ``@``, and tasks choose their own names: such cells get an
apostrophe before them. Plain numbers are left alone.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from opsq.events.records import TaskItem
from opsq.web import hiding
from opsq.web.access.door import Visitor
from opsq.web.audit import Entry, Kept
from opsq.web.deps import Deps
from opsq.web.terms import Filter

CHUNK_ROWS: Final = 500
MOST_ROWS: Final = 1_000_000
TASK_COLUMNS: Final = (
    "id", "state", "type", "queue", "worker", "retries", "published_at", "received_at", "started_at", "finished_at",
    "runtime_s", "parent_id", "root_id", "args", "kwargs", "result", "exception",
)  # fmt: skip
AUDIT_COLUMNS: Final = (
    "at", "who", "how", "source", "act", "target", "outcome", "message", "values", "before", "after", "chain", "seq",
    "prev", "hash",
)  # fmt: skip
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)
_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def cell(value: Any) -> str:
    """A value as the text of a CSV cell that no spreadsheet runs."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if text.lstrip().startswith(_STARTS) and not _NUMBER.fullmatch(text):
        return "'" + text
    return text


def csv_lines(columns: Sequence[str], rows: Iterable[Any]) -> str:
    """Rows as CSV; a row is anything with these attributes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerows([cell(getattr(row, name)) for name in columns] for row in rows)
    return out.getvalue()


def json_lines(rows: Iterable[Any]) -> str:
    """Rows as JSON, one a line."""
    return "".join(msgspec.json.encode(row).decode() + "\n" for row in rows)


def task_chunks(deps: Deps, asked: Filter, visitor: Visitor) -> Iterator[tuple[TaskItem, ...]]:
    """The tasks under a filter as the visitor may see them, newest first, in chunks. Blocks on the store."""
    search = hiding.asked_by(asked, visitor).search
    before: int | None = None
    for _ in range(0, MOST_ROWS, CHUNK_ROWS):
        page = hiding.page(deps.query.tasks(search, before=before, limit=CHUNK_ROWS, counted=False), visitor)
        yield page.items
        if page.older is None:
            return
        before = page.older


def chosen_chunks(deps: Deps, ids: Sequence[str], visitor: Visitor) -> Iterator[tuple[TaskItem, ...]]:
    """The tasks of these ids as the visitor may see them, in this order; unknown ones are left out. Blocks."""
    for start in range(0, len(ids), CHUNK_ROWS):
        found = map(deps.query.task, ids[start : start + CHUNK_ROWS])
        yield tuple(hiding.item(one.item, visitor) for one in found if one is not None)


def audit_chunks(walk: Iterator[Kept]) -> Iterator[tuple[Entry, ...]]:
    """The audit, newest first, in chunks. Blocks on the store."""
    chunk: list[Entry] = []
    for kept in walk:
        chunk.append(kept.entry)
        if len(chunk) >= CHUNK_ROWS:
            yield tuple(chunk)
            chunk = []
    yield tuple(chunk)


def as_file(name: str, form: str, columns: Sequence[str], chunks: Iterator[Sequence[Any]]) -> StreamingResponse:
    """Answer with rows as a file to save. form: ``csv`` or ``jsonl``. name: ours, never a visitor's text."""
    write: Callable[[Sequence[Any]], str] = json_lines if form == "jsonl" else lambda rows: csv_lines(columns, rows)

    async def parts() -> AsyncIterator[str]:
        if form == "csv":
            yield ",".join(columns) + "\r\n"
        # One thread at a time: a generator cannot be in two.
        while (text := await run_in_threadpool(_next, chunks, write)) is not None:
            if text:
                yield text

    kind = "text/csv; charset=utf-8" if form == "csv" else "application/jsonl"
    disposition = f'attachment; filename="{name}.{form}"'
    return StreamingResponse(parts(), media_type=kind, headers={"Content-Disposition": disposition})


def _next(chunks: Iterator[Sequence[Any]], write: Callable[[Sequence[Any]], str]) -> str | None:
    rows = next(chunks, None)
    return None if rows is None else write(rows)
