"""Results in a SQL database through SQLAlchemy, in Celery's tables: ``db+postgresql://user:password@host/db``.

Celery's workers and clients read and write the same rows. A result is written by one statement that leaves a
SUCCESS alone, so nobody waits for a lock.

Source: celery-protocol D.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import (
    IntegrityError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from opsq.clock import Clock, SystemClock
from opsq.core.backends.base import Capabilities, Kind
from opsq.core.backends.fields import Fields, date_of, readable, said_date, storable
from opsq.core.backends.lifetimes import Lifetimes, cutoff
from opsq.core.backends.per_process import PerProcess
from opsq.core.backends.polled import PolledBackend
from opsq.core.backends.sql_address import engine_maker, located
from opsq.core.backends.sql_chord import SqlChords
from opsq.core.backends.sql_tables import Tables, prepare, tables
from opsq.errors import BackendUnavailable
from opsq.masking import mask_url
from opsq.settings import Settings
from opsq.wire.result import ResultMeta
from opsq.wire.states import FAILURE, SUCCESS

_TRIES: Final = 5
_NAME_LENGTH: Final = 155


class SqlBackend(PolledBackend, SqlChords):
    """Celery's tables in one database. make_engine: called once per process.

    create: whether missing tables are made. Thread: any.
    """

    def __init__(
        self,
        name: str,
        make_engine: Callable[[], sa.Engine],
        wanted: Tables,
        fields: Fields,
        lifetimes: Lifetimes,
        clock: Clock | None = None,
    ) -> None:
        can = Capabilities(
            counts=True,
            expires=False,
            notifies=False,
            cross_process=True,
            keeps="fields",
            lifetimes="store",
            counted_by_celery=False,
        )
        super().__init__(name, can, (SQLAlchemyError, OSError))
        self.fields = fields
        self._tables = wanted
        self._lifetimes = lifetimes
        self._clock = clock or SystemClock()
        self._make_engine = make_engine
        self._engine: PerProcess[sa.Engine] = PerProcess(self._open, lambda engine: engine.dispose())

    def close(self) -> None:
        """Close the connections."""
        self._engine.close()

    def _write(self, kind: Kind, id: str, payload: bytes, state: str, ttl_s: float | None) -> bool:
        table, key = self._place(kind)
        row = self._row(payload) if kind == "task" else self._group_row(payload)
        replaceable = key == id
        if kind == "task":
            replaceable &= (table.c.status != SUCCESS) | table.c.status.is_(None) | self._over(table)
        for _ in range(_TRIES):
            with self._engine.get().begin() as db:
                if db.execute(table.update().where(replaceable).values(row)).rowcount:
                    return True
            try:
                with self._engine.get().begin() as db:
                    if db.execute(sa.select(key).where(key == id)).first() is not None:
                        return False
                    db.execute(table.insert().values({**row, key.name: id}))
                    return True
            except IntegrityError:
                continue  # somebody else made the row in between
        raise BackendUnavailable(f"result store {self._name}: others keep making and deleting {id}")

    def _read(self, kind: Kind, ids: Sequence[str]) -> Mapping[str, bytes]:
        table, key = self._place(kind)
        now = self._clock.now()
        with self._engine.get().connect() as db:
            rows = db.execute(sa.select(table).where(key.in_(ids))).mappings().all()
        live = [row for row in rows if not self._lifetimes.over(row.get("status"), row["date_done"], now)]
        if kind == "group":
            return {row[key.name]: self._group_document(row) for row in live}
        return {row[key.name]: self._document(row) for row in live}

    def _marks(self, ids: Sequence[str]) -> Mapping[str, object]:
        rows = self._tables.tasks.c
        with self._engine.get().connect() as db:
            found = db.execute(sa.select(rows.task_id, rows.status, rows.date_done).where(rows.task_id.in_(ids)))
            return {row[0]: (row[1], row[2]) for row in found}

    def _delete(self, kind: Kind, ids: Sequence[str]) -> None:
        table, key = self._place(kind)
        with self._engine.get().begin() as db:
            db.execute(table.delete().where(key.in_(ids)))

    def _sweep(self, now: float) -> int:
        with self._engine.get().begin() as db:
            gone = sum(
                db.execute(table.delete().where(self._over(table, now))).rowcount
                for table in (self._tables.tasks, self._tables.groups)
            )
        self._sweep_chords(now)
        return gone

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with PolledBackend._translated(self):
                yield
        except BackendUnavailable as error:
            if isinstance(error.__cause__, (OperationalError, ProgrammingError)):
                self._engine.close()  # the next use looks for the tables again: they may be gone with their server
            raise

    def _place(self, kind: Kind) -> tuple[sa.Table, sa.Column[Any]]:
        if kind == "task":
            return self._tables.tasks, self._tables.tasks.c.task_id
        return self._tables.groups, self._tables.groups.c.taskset_id

    def _over(self, table: sa.Table, now: float | None = None) -> sa.ColumnElement[bool]:
        now = self._clock.now() if now is None else now
        failures, others = self._lifetimes.cutoffs(now)
        if "status" not in table.c:
            return sa.false() if others is None else table.c.date_done <= others
        failed = table.c.status == FAILURE
        return sa.or_(
            sa.false() if failures is None else failed & (table.c.date_done <= failures),
            sa.false() if others is None else ~failed & (table.c.date_done <= others),
        )

    def _row(self, payload: bytes) -> dict[str, Any]:
        meta, encode = self.fields.record(payload), self.fields.encode
        row: dict[str, Any] = {
            "status": meta.status,
            "result": encode(meta.result),
            "date_done": date_of(meta, self._clock.now()),
            "traceback": storable(meta.traceback),
            "children": encode(meta.children) if meta.children else None,
        }
        if meta.extended:
            row |= {
                "name": (meta.name or "")[:_NAME_LENGTH] or None,
                "args": encode(meta.args),
                "kwargs": encode(meta.kwargs),
                "worker": (meta.worker or "")[:_NAME_LENGTH] or None,
                "retries": meta.retries,
                "queue": (meta.queue or "")[:_NAME_LENGTH] or None,
            }
        if meta.extended and meta.stamped_headers:
            row["stamps"] = encode({"stamped_headers": meta.stamped_headers, "stamps": meta.stamps})
        return {name: value for name, value in row.items() if name in self._tables.tasks.c}

    def _document(self, row: sa.RowMapping) -> bytes:
        decode = self.fields.decode

        def make() -> bytes:
            stamps = decode(row.get("stamps")) or {}
            meta = ResultMeta(
                task_id=row["task_id"],
                status=row["status"],
                result=decode(row["result"]),
                traceback=row["traceback"],
                children=decode(row.get("children")) or [],
                date_done=said_date(row["status"], row["date_done"]),
                extended=row.get("name") is not None,
                name=row.get("name"),
                args=decode(row.get("args")),
                kwargs=decode(row.get("kwargs")),
                worker=row.get("worker"),
                retries=row.get("retries"),
                queue=row.get("queue"),
                stamped_headers=stamps.get("stamped_headers"),
                stamps=stamps.get("stamps") or {},
            )
            return self.fields.document(meta)

        return readable(make, row["result"])

    def _group_row(self, payload: bytes) -> dict[str, Any]:
        members = self.fields.encode(self.fields.members(payload))
        return {"result": members, "date_done": cutoff(self._clock.now(), 0)}

    def _group_document(self, row: sa.RowMapping) -> bytes:
        return readable(lambda: self.fields.group(self.fields.decode(row["result"])), row["result"])

    def _open(self) -> sa.Engine:
        engine = self._make_engine()
        try:
            prepare(engine, self._tables)
        except BaseException:
            engine.dispose()
            raise
        return engine


def open_sql(url: str, settings: Settings) -> SqlBackend:
    """Make the backend for ``db+DIALECT://``; the settings are ``database_*``.

    Raises: ConfigError for a URL that SQLAlchemy cannot read, or a driver that is not installed.
    """
    place = located(url.removeprefix("db+").removeprefix("database+"))
    return SqlBackend(
        mask_url(f"db+{place.render_as_string(hide_password=True)}"),
        engine_maker(place, settings),
        tables(settings.database_table_names or {}, settings.database_table_schemas or {}),
        Fields(settings),
        Lifetimes.of(settings),
    )
