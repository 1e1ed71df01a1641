"""The log lines of tasks in the SQLite history. Every function is called inside a transaction of the writer's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from opsq.events.sqlite_schema import id_hash
from opsq.events.task_log import BATCHES_KEPT, LEAVING_AT_ONCE, LeavingLogs, LogBatch, leaving


def write(db: sqlite3.Connection, batches: Sequence[LogBatch]) -> None:
    """Keep batches that are not there yet, and of each of their tasks the newest few."""
    if not batches:
        return
    sql = "INSERT OR IGNORE INTO logs (id_hash, id, at, digest, record) VALUES (?,?,?,?,?)"
    grown = 0
    for one in batches:
        kept = db.execute(sql, (id_hash(one.task), one.task, one.at, one.digest, one.record)).rowcount
        grown += kept * len(one.record)
    for task in {one.task for one in batches}:
        grown -= _trim(db, task)
    _resize(db, grown)


def _trim(db: sqlite3.Connection, task: str) -> int:
    """Remove what is too much of one task; how many bytes that was."""
    sql = (
        "SELECT number, length(record) FROM logs WHERE id_hash = ? AND id = ? ORDER BY at DESC, digest DESC "
        "LIMIT -1 OFFSET ?"
    )
    surplus = db.execute(sql, (id_hash(task), task, BATCHES_KEPT)).fetchall()
    db.executemany("DELETE FROM logs WHERE number = ?", [(number,) for number, _ in surplus])
    return sum(length for _, length in surplus)


def of_task(db: sqlite3.Connection, task: str) -> list[LogBatch]:
    """The batches of one task, oldest first."""
    sql = "SELECT id, at, digest, record FROM logs WHERE id_hash = ? AND id = ? ORDER BY at, digest"
    return [LogBatch(*found) for found in db.execute(sql, (id_hash(task), task))]


def retain(db: sqlite3.Connection, before: float, max_bytes: int | None) -> LeavingLogs:
    """Delete a bounded chunk of what is from before an epoch second, or too much."""
    (size,) = db.execute("SELECT bytes FROM log_size").fetchone()
    sql = "SELECT number, at, length(record) FROM logs ORDER BY number LIMIT ?"
    gone = leaving(db.execute(sql, (LEAVING_AT_ONCE,)), before, 0 if max_bytes is None else size - max_bytes)
    if gone.last:
        db.execute("DELETE FROM logs WHERE number <= ?", (gone.last,))
        _resize(db, -gone.size)
    return gone


def _resize(db: sqlite3.Connection, grown: int) -> None:
    if grown:
        db.execute("UPDATE log_size SET bytes = bytes + ?", (grown,))
