"""SQLite's errors in words: what failed, where, and what to do."""

from __future__ import annotations

import sqlite3

from opsq.broker.faults import BrokerBusy, BrokerUnusable, LeaseLost
from opsq.broker.sqlite.take import LOST
from opsq.errors import BrokerUnavailable

_FAILED = {
    sqlite3.SQLITE_FULL: (BrokerBusy, "the disk is full", "free some space; nothing that was accepted is lost"),
    sqlite3.SQLITE_BUSY: (
        BrokerBusy,
        "the file stayed locked",
        "find the process that holds it with `fuser -v` and end it",
    ),
    sqlite3.SQLITE_LOCKED: (BrokerBusy, "a table stayed locked", "find the process that holds it with `fuser -v`"),
    sqlite3.SQLITE_CANTOPEN: (
        BrokerUnusable,
        "the file cannot be opened or created",
        "check that its directory exists and that this user may write there",
    ),
    sqlite3.SQLITE_READONLY: (
        BrokerUnusable,
        "the file cannot be written",
        "check the permissions of the file and its directory",
    ),
    sqlite3.SQLITE_PERM: (BrokerUnusable, "access was denied", "check the permissions of the file and its directory"),
    sqlite3.SQLITE_NOTADB: (BrokerUnusable, "it is not a SQLite database", "name another file, or move this one away"),
    sqlite3.SQLITE_CORRUPT: (
        BrokerUnusable,
        "the database is damaged",
        "stop opsq, keep a copy, save what can be read with `sqlite3 FILE .recover`, then start with a new file",
    ),
    sqlite3.SQLITE_IOERR: (
        BrokerUnavailable,
        "reading or writing failed",
        "check the disk (`dmesg`) and its free space",
    ),
    sqlite3.SQLITE_TOOBIG: (BrokerUnavailable, "the message is too big for SQLite", "keep it below 700 MB"),
}


def primary_code(exc: sqlite3.Error) -> int:
    """Return SQLite's primary result code of an error; 0 when it has none."""
    code: int = getattr(exc, "sqlite_errorcode", 0) or 0
    return code & 0xFF


def translate(exc: sqlite3.Error, path: str) -> BrokerUnavailable:
    """Turn an error of SQLite into ours, naming the file and a remedy."""
    if LOST in str(exc):
        return LeaseLost(
            f"broker file {path}: this process was silent for longer than lease_seconds; its messages went back"
        )
    known = _FAILED.get(primary_code(exc))
    if known is None:
        return BrokerUnavailable(f"broker file {path}: {exc}")
    kind, problem, remedy = known
    return kind(f"broker file {path}: {problem} ({exc}); {remedy}")
