"""Statements of the PostgreSQL history that write and read whole kinds of things inside a transaction of the writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opsq.events.postgres_read import Db
from opsq.events.postgres_schema import plain
from opsq.events.removed import LEDGER, more_gone
from opsq.events.rollup import SliceKey
from opsq.events.rows import BETWEEN, Cell


def add_to_cells(db: Db, cells: Mapping[Cell, int]) -> None:
    """Change counts by cell."""
    if not cells:
        return
    summed: dict[str, int] = {}
    for cell, amount in cells.items():
        text = BETWEEN.join(plain(part or "") for part in cell)
        summed[text] = summed.get(text, 0) + amount
    db.execute(
        "INSERT INTO cells SELECT * FROM unnest(%s::text[], %s::bigint[]) "
        "ON CONFLICT (cell) DO UPDATE SET n = cells.n + excluded.n",
        (list(summed), list(summed.values())),
    )


def note_removed(db: Db, last: int, now: float) -> None:
    """Keep in the ledger what is about to be removed: every row up to this key."""
    found = db.execute("SELECT value FROM ledger WHERE name = %s", (LEDGER,)).fetchone()
    doomed = db.execute("SELECT evidence FROM tasks WHERE key <= %s", (last,), binary=True)
    record = more_gone(bytes(found[0]) if found else None, (evidence for (evidence,) in doomed), now)
    db.execute(
        "INSERT INTO ledger VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (LEDGER, record)
    )


def read_ledger(db: Db, names: Sequence[str]) -> dict[str, bytes]:
    """Entries of the ledger by name, as far as they exist."""
    found = db.execute("SELECT name, value FROM ledger WHERE name = ANY(%s::text[])", (list(names),), binary=True)
    return {name: bytes(value) for name, value in found}


def read_slices(db: Db, keys: Sequence[SliceKey]) -> dict[SliceKey, bytes]:
    """Stored slices by key, as far as they exist."""
    if not keys:
        return {}
    asked = {(width, start, plain(series)): (width, start, series) for width, start, series in keys}
    widths, starts, series = zip(*asked, strict=True)
    found = db.execute(
        "SELECT width, start, series, data FROM slices JOIN unnest(%s::integer[], %s::bigint[], %s::text[]) "
        "AS wanted (width, start, series) USING (width, start, series)",
        (list(widths), list(starts), list(series)),
        binary=True,
    )
    return {asked[width, start, name]: data for width, start, name, data in found}


def put_slices(db: Db, slices: Mapping[SliceKey, bytes]) -> None:
    """Store slices whole."""
    if not slices:
        return
    with db.cursor() as cursor:
        db.execute("CREATE TEMP TABLE IF NOT EXISTS sliced (LIKE slices) ON COMMIT DELETE ROWS")
        with cursor.copy("COPY sliced FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "text", "int8", "bytea"])
            for (width, start, series), data in slices.items():
                copy.write_row((width, plain(series), start, data))
        cursor.execute(
            "INSERT INTO slices SELECT * FROM sliced "
            "ON CONFLICT (width, series, start) DO UPDATE SET data = excluded.data"
        )
