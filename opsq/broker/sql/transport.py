"""SQL databases as a kombu transport of our own: kombu's tables and rows, with what it lacks.

Stock clients publish to these queues and read them as before. opsq's own way in and out: several
messages per transaction, leases (``lease.py``), and bindings that other processes see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from kombu.transport import sqlalchemy as _kombu_sql
from kombu.utils import json as _kombu_json
from sqlalchemy.orm import sessionmaker

from opsq.broker.kombu_source import Declared, KombuSource
from opsq.broker.message import OutMessage
from opsq.broker.polled import write_envelope
from opsq.broker.source import Source
from opsq.broker.sql.lease import Lease
from opsq.broker.sql.source import SqlSource
from opsq.broker.sql.standing import SqlBook
from opsq.broker.sql.tables import LEASED_DIALECTS, Tables
from opsq.broker.topology import QueueSpec
from opsq.masking import mask_url

_kombu: Any = _kombu_sql  # typed here and there, differently in each version of kombu
_dumps: Any = _kombu_json.dumps

DEFAULT_LEASE_S = 30.0
IO_S = 10
_OURS = frozenset({"lease_seconds", "polling_interval", "body_encoding", "deadletter_queue"})
_BROKEN = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.InternalError,
    sa.exc.TimeoutError,
    sa.exc.PendingRollbackError,
    sa.exc.ResourceClosedError,
)


class Channel(_kombu.Channel):  # type: ignore[misc]  # Any
    """One kombu channel with a batch way out, and bindings in the database."""

    supports_fanout = True

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self._ids: dict[str, int] = {}
        self._types: dict[str, str] = {}
        self._lasting: dict[str, float] = {}
        self._declared = Declared(self)

    def _engine_from_config(self) -> Any:
        client = self.connection.client
        given = {key: value for key, value in client.transport_options.items() if key not in _OURS}
        client_options, client.transport_options = client.transport_options, {**_limits(client), **given}
        try:
            return super()._engine_from_config()
        finally:
            client.transport_options = client_options

    def _open(self) -> Any:
        return self.connection.opened(self)

    # ---- queues

    def _queue_id(self, db: Any, name: str) -> int:
        """Return the number of a queue, which is made if need be."""
        known = self._ids.get(name)
        if known is not None:
            return known
        table = self.connection.tables.queue
        asked = sa.select(table.c.id).where(table.c.name == name)
        found = db.execute(asked).scalar()
        if found is None:
            try:
                with db.begin_nested():
                    db.execute(sa.insert(table).values(name=name))
            except sa.exc.IntegrityError:
                pass  # somebody else made it just now
            found = db.execute(asked).scalar_one()
        self._ids[name] = int(found)
        return int(found)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        table = self.connection.tables.queue
        with self.connection.engine.begin() as db:
            return db.execute(sa.select(table.c.id).where(table.c.name == queue)).scalar() is not None

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        lasting = (kwargs.get("arguments") or {}).get("x-expires")
        if lasting or kwargs.get("auto_delete") or kwargs.get("exclusive"):
            self._lasting[queue] = lasting / 1000 if lasting else 60.0
        with self.connection.engine.begin() as db:
            self._ids.pop(queue, None)
            self._queue_id(db, queue)

    def _size(self, queue: str) -> int:
        message, queues = self.connection.tables.message, self.connection.tables.queue
        with self.connection.engine.begin() as db:
            asked = sa.select(sa.func.count()).select_from(message).join(queues, queues.c.id == message.c.queue_id)
            return int(db.execute(asked.where(queues.c.name == queue, message.c.visible.is_(True))).scalar_one())

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        """Delete a queue with what is in it and its bindings."""
        if if_empty and self._size(queue):
            return
        self.state.queue_bindings_delete(queue)
        self._ids.pop(queue, None)
        with self.connection.engine.begin() as db:
            _delete_queue(db, self.connection.tables, queue)

    # ---- bindings

    def _queue_bind(self, exchange: str, routing_key: str, pattern: Any, queue: str) -> None:
        table = self.connection.tables.binding
        lasting = self._lasting.get(queue)
        row = {
            "exchange": exchange,
            "routing_key": routing_key or "",
            "queue": queue,
            "type": self.state.exchanges[exchange]["type"],
            "pattern": getattr(pattern, "pattern", pattern) or "",
            "expires_s": lasting,
            "until": None if lasting is None else self.connection.tables.now + lasting,
        }
        try:
            with self.connection.engine.begin() as db:
                db.execute(sa.insert(table).values(**row))
        except sa.exc.IntegrityError:
            pass  # bound already, by us before or by another process

    def get_table(self, exchange: str) -> Any:
        """Return (routing key, pattern, queue) of every binding whose queue is still read by somebody."""
        table = self.connection.tables.binding
        asked = sa.select(table.c.type, table.c.routing_key, table.c.pattern, table.c.queue).where(
            table.c.exchange == exchange, sa.or_(table.c.until.is_(None), table.c.until > self.connection.tables.now)
        )
        with self.connection.engine.begin() as db:
            rows = db.execute(asked).all()
        if rows:
            self._types[exchange] = rows[0].type
        kind = self.typeof(exchange)
        return {kind.prepare_bind(row.queue, exchange, row.routing_key, None) for row in rows}

    def typeof(self, exchange: str, default: str = "direct") -> Any:
        """Return the type of an exchange, also of one that another process declared."""
        if exchange not in self.state.exchanges and exchange in self._types:
            return self.exchange_types[self._types[exchange]]
        return super().typeof(exchange, default)

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **kwargs: Any) -> None:
        for queue in self._reached(exchange, routing_key):
            self._put(queue, message)

    def _reached(self, exchange: str, routing_key: str) -> list[str]:
        if not exchange:
            return [routing_key]
        table = self.get_table(exchange)
        if self.typeof(exchange).type == "fanout":
            return sorted({queue for _, _, queue in table})
        return sorted(self.typeof(exchange).lookup(table, exchange, routing_key, None))

    def keep_queues(self, names: Sequence[str]) -> None:
        """Say that our private queues are still read, and delete those whose reader is long gone."""
        tables = self.connection.tables
        binding = tables.binding
        mine = [name for name in names if name in self._lasting]
        with self.connection.engine.begin() as db:
            if mine:
                db.execute(
                    sa.update(binding).where(binding.c.queue.in_(mine)).values(until=tables.now + binding.c.expires_s)
                )
            over = db.execute(sa.select(binding.c.queue).where(binding.c.until < tables.now).distinct()).scalars()
            for queue in over.all():
                _delete_queue(db, tables, queue)

    # ---- sending

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:
        self._insert([(queue, _dumps(payload))])

    def publish_messages(self, messages: Sequence[OutMessage]) -> int:
        """Send all or none, in one transaction; return how many reached no queue.

        Raises: UsageError when headers or properties cannot be written as JSON.
        """
        with self.connection.said():
            rows: list[tuple[str, str]] = []
            unrouted = 0
            for message in messages:
                self._declared.once(message.declare)
                reached = self._reached(message.exchange, message.routing_key)
                unrouted += not reached
                text = write_envelope(self, message) if reached else ""
                rows += [(queue, text) for queue in reached]
            self._insert(rows)
        return unrouted

    def _insert(self, rows: Sequence[tuple[str, str]]) -> None:
        if not rows:
            return
        table = self.connection.tables.message
        for last in (False, True):
            try:
                with self.connection.engine.begin() as db:
                    values = [
                        {"queue_id": self._queue_id(db, queue), "payload": text, "visible": True, "version": 1}
                        for queue, text in rows
                    ]
                    db.execute(sa.insert(table), values)
            except sa.exc.IntegrityError:
                self._ids.clear()  # a queue was deleted since we asked for its number
                if last:
                    raise
            else:
                return


class Transport(_kombu.Transport):  # type: ignore[misc]  # Any
    """kombu's SQLAlchemy transport: an engine per connection, leases, and its errors in plain words."""

    Channel = Channel
    connection_errors = _BROKEN
    channel_errors = (*_kombu.Transport.channel_errors, sa.exc.DBAPIError)
    implements = _kombu.Transport.implements.extend(exchange_type=frozenset({"direct", "topic", "fanout"}))

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        # kombu keeps one engine per process and URL, which a fork would share with its parent.
        self._opened: Any = None
        self.tables: Any = None

    @property
    def engine(self) -> Any:
        """The pool of database connections of this connection."""
        return self._opened[0]

    def opened(self, channel: Any) -> Any:
        """Return (engine, session factory), made on first use together with missing tables."""
        if self._opened is None:
            engine = channel._engine_from_config()
            try:
                self.tables = Tables(channel.queue_cls, channel.message_cls, engine.dialect.name)
                self.tables.create(engine)
            except BaseException:
                engine.dispose()
                raise
            self._opened = engine, sessionmaker(bind=engine)
        return self._opened

    def establish_connection(self) -> Any:
        """Connect now, not on first use: a list of brokers to fall back on is of no use otherwise."""
        connection = super().establish_connection()
        self.opened(self._avail_channels[-1])
        return connection

    def close_connection(self, connection: Any) -> None:
        """Close the channels and all database connections."""
        super().close_connection(connection)
        if self._opened is not None:
            self.engine.dispose()

    @property
    def name(self) -> str:
        """The broker's URL without its password."""
        return mask_url(f"sqla+{self.client.hostname}")

    @contextmanager
    def said(self) -> Iterator[None]:
        """Leave out of the library's errors what nobody can act on: statement, parameters, a link."""
        try:
            yield
        except sa.exc.DBAPIError as exc:
            exc.hide_parameters = True
            raise

    def open_source(self, queues: Sequence[QueueSpec], *, no_ack: bool, prefetch: int) -> Source:
        """Return a consumer's stream of deliveries; with leases where the database can skip locked rows."""
        if self.engine.dialect.name not in LEASED_DIALECTS:
            return KombuSource(self.client, queues, no_ack=no_ack, prefetch=prefetch)
        lease_s = float(self.client.transport_options.get("lease_seconds", DEFAULT_LEASE_S))
        lease = Lease(self.engine, self.tables, lease_s, self.name)
        return SqlSource(self, self.client.channel(), queues, lease, lease_s, no_ack)

    def standing_orders(self) -> SqlBook:
        """Return the book of standing orders."""
        return SqlBook(self.engine, self.tables)


def _limits(client: Any) -> dict[str, Any]:
    """Options that keep a silent server from holding a thread for ever; what the user says wins."""
    url = sa.engine.make_url(client.hostname)
    timeout_s = max(1, int(client.connect_timeout or 4))
    shared = {"isolation_level": "READ COMMITTED", "hide_parameters": True}
    if url.get_backend_name() == "postgresql" and url.get_driver_name() in {"psycopg", "psycopg2"}:
        silent = {"tcp_user_timeout": IO_S * 1000, "keepalives_idle": 5, "keepalives_interval": 3}
        return {**shared, "connect_args": {"connect_timeout": timeout_s, **silent}}
    if url.get_driver_name() == "pymysql":
        return {
            **shared,
            "connect_args": {"connect_timeout": timeout_s, "read_timeout": IO_S, "write_timeout": IO_S},
        }
    return shared if url.get_backend_name() in LEASED_DIALECTS else {}


def _delete_queue(db: Any, tables: Tables, name: str) -> None:
    number = sa.select(tables.queue.c.id).where(tables.queue.c.name == name).scalar_subquery()
    db.execute(sa.delete(tables.message).where(tables.message.c.queue_id == number))
    db.execute(sa.delete(tables.binding).where(tables.binding.c.queue == name))
    db.execute(sa.delete(tables.queue).where(tables.queue.c.name == name))
