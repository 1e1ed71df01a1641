"""The log lines of tasks in the PostgreSQL history. Writes belong into a transaction that holds the write lock."""

from __future__ import annotations

from collections.abc import Sequence

from opsq.events.postgres_read import Db
from opsq.events.postgres_schema import plain
from opsq.events.task_log import BATCHES_KEPT, LEAVING_AT_ONCE, LeavingLogs, LogBatch, leaving


def write(db: Db, batches: Sequence[LogBatch]) -> None:
    """Keep batches that are not there yet, and of each of their tasks the newest few."""
    if not batches:
        return
    ids = [plain(one.task) for one in batches]
    rows = (ids, [one.at for one in batches], [one.digest for one in batches], [one.record for one in batches])
    kept = db.execute(
        "WITH kept AS (INSERT INTO logs (id, at, digest, record) "
        "SELECT * FROM unnest(%s::text[], %s::double precision[], %s::bigint[], %s::bytea[]) "
        "ON CONFLICT (id, at, digest) DO NOTHING RETURNING octet_length(record) AS size) "
        "SELECT coalesce(sum(size), 0) FROM kept",
        rows,
    ).fetchone()
    _resize(db, int(kept[0]) if kept else 0)
    _trim(db, sorted(set(ids)))


def _trim(db: Db, ids: Sequence[str]) -> None:
    """Remove what is too much of each of these tasks."""
    gone = db.execute(
        "WITH ranked AS (SELECT number, row_number() OVER (PARTITION BY id ORDER BY at DESC, digest DESC) AS place "
        "FROM logs WHERE id = ANY(%s::text[])), gone AS (DELETE FROM logs USING ranked "
        "WHERE logs.number = ranked.number AND place > %s RETURNING octet_length(record) AS size) "
        "SELECT coalesce(sum(size), 0) FROM gone",
        (list(ids), BATCHES_KEPT),
    ).fetchone()
    _resize(db, -int(gone[0]) if gone else 0)


def retain(db: Db, before: float, max_bytes: int | None) -> LeavingLogs:
    """Delete a bounded chunk of what is from before an epoch second, or too much."""
    size = (db.execute("SELECT bytes FROM log_size").fetchone() or (0,))[0]
    oldest = db.execute(
        "SELECT number, at, octet_length(record) FROM logs ORDER BY number LIMIT %s", (LEAVING_AT_ONCE,)
    )
    gone = leaving(oldest, before, 0 if max_bytes is None else size - max_bytes)
    if gone.last:
        db.execute("DELETE FROM logs WHERE number <= %s", (gone.last,))
        _resize(db, -gone.size)
    return gone


def _resize(db: Db, grown: int) -> None:
    if grown:
        db.execute("UPDATE log_size SET bytes = bytes + %s", (grown,))
