"""A history store of the monitor: as the built-in one, and every finished task as a line in a file of its own.

In the package that brings it, pyproject.toml says:

[project.entry-points."opsq.stores"]
archive = "examples.extend.store:open_archive"

Then ``monitor_store_url = "archive:///var/lib/shop/history.db"``. ``opsq/testing/contract_store.py`` is the suite
that any store must pass.
"""

from __future__ import annotations

import json
from pathlib import Path

from opsq.events.sqlite import SqliteStore, open_url
from opsq.events.store import Changes
from opsq.wire.states import READY_STATES


class ArchiveStore:
    """Passes everything on to a SQLite history, and notes what has ended."""

    def __init__(self, inner: SqliteStore, archive: Path) -> None:
        self._inner = inner
        self._archive = archive

    def __getattr__(self, name: str) -> object:
        """Whatever is not changed here is the inner store's."""
        return getattr(self._inner, name)

    def write(self, changes: Changes) -> None:
        """Write all of it or none, then the lines; a row may be written again when more is known of it."""
        self._inner.write(changes)
        ended = [row for row in changes.rows.values() if row.state in READY_STATES]
        with self._archive.open("a") as file:
            file.writelines(
                json.dumps({"id": row.id, "task": row.type, "state": row.state, "worker": row.worker}) + "\n"
                for row in ended
            )


def open_archive(url: str) -> ArchiveStore:
    """Open ``archive:///folder/history.db``; the lines go to ``history.jsonl`` beside it."""
    path = Path(url.removeprefix("archive://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return ArchiveStore(open_url(f"sqlite:///{path}"), path.with_suffix(".jsonl"))
