"""Results in Cassandra, in Celery's table: settings ``cassandra_*``, or ``cassandra://host1,host2/keyspace``.

Every state is a row of its own, the newest first; rows end by themselves. Cassandra has no cheap condition
over rows, so the newest state is read before one is written, as Celery does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from cassandra import AlreadyExists, ConsistencyLevel, DriverException, auth
from cassandra.cluster import Cluster, NoHostAvailable, Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import PreparedStatement

from opsq.core.backends.base import Capabilities, Kind
from opsq.core.backends.fields import Fields, readable, said_date
from opsq.core.backends.lifetimes import cutoff
from opsq.core.backends.per_process import PerProcess
from opsq.core.backends.polled import PolledBackend
from opsq.core.backends.polling import Pace
from opsq.errors import ConfigError
from opsq.settings import Settings
from opsq.wire.result import ResultMeta
from opsq.wire.states import SUCCESS

PORT: Final = 9042
_AT_ONCE: Final = 50
_MAKE: Final[Mapping[Kind, str]] = {
    "task": (
        "CREATE TABLE {table} (task_id text, status text, result blob, date_done timestamp, traceback blob, "
        "children blob, PRIMARY KEY ((task_id), date_done)) WITH CLUSTERING ORDER BY (date_done DESC)"
    ),
    "group": "CREATE TABLE {table}_groups (group_id text PRIMARY KEY, result blob)",
}
_STATEMENTS: Final[Mapping[str, str]] = {
    "read task": (
        "SELECT task_id, status, result, date_done, traceback, children FROM {table} WHERE task_id = ? LIMIT 1"
    ),
    "read group": "SELECT group_id, result FROM {table}_groups WHERE group_id = ?",
    "look": "SELECT task_id, status, date_done FROM {table} WHERE task_id = ? LIMIT 1",
    "write task": (
        "INSERT INTO {table} (task_id, status, result, date_done, traceback, children) "
        "VALUES (?, ?, ?, ?, ?, ?) USING TTL ?"
    ),
    "write group": "INSERT INTO {table}_groups (group_id, result) VALUES (?, ?) USING TTL ?",
    "delete task": "DELETE FROM {table} WHERE task_id = ?",
    "delete group": "DELETE FROM {table}_groups WHERE group_id = ?",
}


class Place(NamedTuple):
    """Where the table is. options: of the driver's ``Cluster``. read, write: consistency levels."""

    keyspace: str
    table: str
    options: Mapping[str, Any]
    read: int
    write: int


class _Open(NamedTuple):
    session: Session
    statements: Mapping[str, PreparedStatement]


class CassandraBackend(PolledBackend):
    """Celery's table in one keyspace. entry_ttl_s: of rows, where the settings say one."""

    def __init__(self, place: Place, fields: Fields, entry_ttl_s: float | None = None) -> None:
        can = Capabilities(counts=False, expires=True, notifies=False, cross_process=True, atomic=False, keeps="fields")
        faults = (DriverException, NoHostAvailable, OSError)
        super().__init__(f"cassandra keyspace {place.keyspace}", can, faults, Pace(first_s=0.01))
        self.fields = fields
        self._place = place
        self._entry_ttl_s = entry_ttl_s
        self._open: PerProcess[_Open] = PerProcess(self._connect, lambda made: made.session.cluster.shutdown())

    def close(self) -> None:
        """Close the connections."""
        self._open.close()

    def _write(self, kind: Kind, id: str, payload: bytes, state: str, ttl_s: float | None) -> bool:
        ttl = _whole(ttl_s if self._entry_ttl_s is None else self._entry_ttl_s)
        if kind == "group":
            self._run("write group", (id, self.fields.encode(self.fields.members(payload)), ttl))
            return True
        newest = self._run("look", (id,)).one()
        if newest is not None and newest.status == SUCCESS:
            return False
        meta, encode = self.fields.record(payload), self.fields.encode
        date = cutoff(datetime.now(UTC).timestamp(), 0)
        if newest is not None and newest.date_done >= date:
            date = newest.date_done + timedelta(milliseconds=1)  # another machine's clock may be ahead
        row = (id, meta.status, encode(meta.result), date, encode(meta.traceback), encode(meta.children or []))
        self._run("write task", (*row, ttl))
        return True

    def _read(self, kind: Kind, ids: Sequence[str]) -> Mapping[str, bytes]:
        make = self._document if kind == "task" else self._group_document
        return {row[0]: make(row) for row in self._rows(f"read {kind}", ids)}

    def _marks(self, ids: Sequence[str]) -> Mapping[str, object]:
        return {row.task_id: (row.status, row.date_done) for row in self._rows("look", ids)}

    def _delete(self, kind: Kind, ids: Sequence[str]) -> None:
        self._rows(f"delete {kind}", ids)

    def _rows(self, name: str, ids: Sequence[str]) -> list[Any]:
        made = self._open.get()
        answers = execute_concurrent_with_args(
            made.session, made.statements[name], [(id,) for id in ids], concurrency=_AT_ONCE
        )
        return [row for answer in answers for row in answer.result_or_exc]

    def _run(self, name: str, values: tuple[Any, ...]) -> Any:
        made = self._open.get()
        return made.session.execute(made.statements[name], values)

    def _document(self, row: Any) -> bytes:
        decode = self.fields.decode

        def make() -> bytes:
            meta = ResultMeta(
                task_id=row.task_id,
                status=row.status,
                result=decode(row.result),
                traceback=decode(row.traceback),
                children=decode(row.children),
                date_done=said_date(row.status, row.date_done),
            )
            return self.fields.document(meta)

        return readable(make, row.result)

    def _group_document(self, row: Any) -> bytes:
        return readable(lambda: self.fields.group(self.fields.decode(row.result)), row.result)

    def _connect(self) -> _Open:
        place = self._place
        cluster = Cluster(**place.options)
        try:
            session = cluster.connect(place.keyspace)
            for order in _MAKE.values():
                with suppress(AlreadyExists):
                    session.execute(order.format(table=place.table))
            statements = {name: session.prepare(text.format(table=place.table)) for name, text in _STATEMENTS.items()}
        except BaseException:
            cluster.shutdown()
            raise
        for name, statement in statements.items():
            statement.consistency_level = place.read if name.startswith(("read", "look")) else place.write
        return _Open(session, statements)


def _whole(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, math.ceil(seconds))


def open_cassandra(url: str, settings: Settings) -> CassandraBackend:
    """Make the backend. Raises: ConfigError when servers, keyspace or table are not named, or twice."""
    where, _, keyspace = url.partition("://")[2].partition("/")
    servers = list(settings.cassandra_servers or [host for host in where.split(",") if host])
    bundle = settings.cassandra_secure_bundle_path or settings.cassandra_bundle_path
    keyspace = settings.cassandra_keyspace or keyspace
    if bool(servers) == bool(bundle):
        raise ConfigError(
            "result_backend cassandra:// needs cassandra_servers or cassandra_secure_bundle_path, not both"
        )
    if not keyspace:
        raise ConfigError("result_backend cassandra:// needs cassandra_keyspace")
    options: dict[str, Any] = dict(settings.cassandra_options)
    if bundle:
        options["cloud"] = {"secure_connect_bundle": bundle}
    else:
        options |= {"contact_points": servers, "port": settings.cassandra_port or PORT}
    if settings.cassandra_auth_provider:
        options["auth_provider"] = _login(settings)
    place = Place(
        keyspace,
        settings.cassandra_table or "celery_results",
        options,
        _consistency("cassandra_read_consistency", settings.cassandra_read_consistency),
        _consistency("cassandra_write_consistency", settings.cassandra_write_consistency),
    )
    return CassandraBackend(place, Fields(settings, compress=True), settings.cassandra_entry_ttl)


def _login(settings: Settings) -> Any:
    provider = getattr(auth, str(settings.cassandra_auth_provider), None)
    if provider is None:
        raise ConfigError(f"cassandra_auth_provider {settings.cassandra_auth_provider!r} is no class of cassandra.auth")
    return provider(**(settings.cassandra_auth_kwargs or {}))


def _consistency(setting: str, name: str | None) -> int:
    known: Mapping[str, int] = ConsistencyLevel.name_to_value
    if name is not None and name not in known:
        raise ConfigError(f"{setting} must be one of {', '.join(sorted(known))}, got {name!r}")
    return known[name or "LOCAL_QUORUM"]
