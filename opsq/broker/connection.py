"""One connection to a broker: which of several to take, for how long to try, what errors mean.

kombu makes the connection; choosing among URLs, deadlines and the words of errors are ours. No
message ever contains a password.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

from kombu import connection as _kombu_connection
from kombu.exceptions import OperationalError

from opsq.broker.kombu_source import KombuSource, declare_exchange, declare_queue
from opsq.broker.registry import BROKERS, BrokerInfo, find_broker, transport_of
from opsq.broker.retry import RetryPolicy
from opsq.broker.source import Source
from opsq.broker.topology import ExchangeSpec, QueueSpec
from opsq.errors import BrokerUnavailable, ConfigError, OpsqError
from opsq.masking import mask_url

if TYPE_CHECKING:
    from opsq.settings import Settings

log = logging.getLogger(__name__)

_Connection: Any = _kombu_connection.Connection  # typed here and there, differently in each version of kombu
# Several URLs are tried in turn; after each round the pause grows to this.
RECONNECT = RetryPolicy(max_retries=None, interval_start=0.1, interval_step=0.3, interval_max=2.0, jitter=0.5)
CLOSE_S = 2.0
_IO_TIMEOUT_S = 15.0


class BrokerConnection:
    """A connection that is made by ``connect`` and may be made again after it was lost.

    urls: tried in order, or in random order with ``failover="shuffle"`` (a callable gets the list
    and returns an endless iterator, as in kombu). transport_options: passed to kombu's transport.
    connect_timeout_s: for one attempt on one URL. heartbeat_s: AMQP only.
    Thread: one owner, except ``close`` and the read-only properties.
    Raises: ConfigError for URLs that cannot be used.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        transport_options: Mapping[str, Any] | None = None,
        connect_timeout_s: float | None = 4.0,
        failover: str | Callable[[list[str]], Iterable[str]] | None = "round-robin",
        use_ssl: Any = None,
        heartbeat_s: float | None = None,
        login_method: str | None = None,
    ) -> None:
        self.urls = _split(urls)
        self._brokers = {url: find_broker(url) for url in self.urls}
        self._transport_options = dict(transport_options or {})
        self._connect_timeout_s = connect_timeout_s or None
        self._kombu_options = {
            "ssl": use_ssl or False,
            "heartbeat": heartbeat_s or 0,
            "login_method": login_method,
        }
        self._order = _order(self.urls, failover)
        self._url = self.urls[0]
        self._kombu: Any = None
        self._pid = os.getpid()
        self._abandoned: list[Any] = []

    @property
    def url(self) -> str:
        """The URL in use, or the next to be tried. Contains the password."""
        return self._url

    @property
    def sanitised_url(self) -> str:
        """The same URL, fit for logs."""
        return mask_url(self._url)

    @property
    def broker(self) -> BrokerInfo:
        """The table row of the broker in use."""
        return self._brokers[self._url]

    @property
    def tested(self) -> bool:
        """Whether the broker is one of opsq's table, which run its contract suite."""
        return BROKERS.get(self.broker.name) is self.broker or self.broker.transport is not None

    @property
    def connected(self) -> bool:
        """Whether there is a connection that nobody has found broken yet."""
        return self._kombu is not None and self._pid == os.getpid()

    @property
    def kombu(self) -> Any:
        """The connected ``kombu.Connection``. Raises: BrokerUnavailable when not connected."""
        if not self.connected:
            raise BrokerUnavailable(f"not connected to the broker at {self.sanitised_url}; call connect() first")
        return self._kombu

    @property
    def driver(self) -> str:
        """kombu's driver type, for example ``amqp``, ``redis``, ``memory``, ``sqlite``."""
        return str(self.kombu.transport.driver_type)

    @property
    def supports_fanout(self) -> bool:
        """Whether one message can reach several queues (events, remote control)."""
        if self.broker.name in BROKERS:
            return self.broker.features.fanout
        exchange_types: Iterable[str] = self.kombu.transport.implements.exchange_type
        return "fanout" in exchange_types or bool(getattr(self.kombu.transport.Channel, "supports_fanout", False))

    @property
    def polling(self) -> bool:
        """Whether new messages must be asked for, because nothing tells of their arrival."""
        transport = self.kombu.transport
        return not transport.implements.asynchronous and not hasattr(transport, "open_source")

    def connect(self, deadline_s: float | None = None, *, within_s: float | None = None) -> None:
        """Connect to the first URL that answers; does nothing when connected.

        deadline_s: seconds to go on trying all URLs, with growing pauses; ``None`` tries each once.
        within_s: seconds for one try of each, together.
        Raises: BrokerUnavailable with the last cause, ConfigError when a library is missing.
        """
        if self.connected:
            return
        self._forget_parents()
        give_up_at = None if deadline_s is None else time.monotonic() + deadline_s
        round_ends_at = give_up_at if within_s is None else time.monotonic() + within_s
        pauses = RECONNECT.intervals()
        while True:
            last = self._one_round(round_ends_at)
            if last is None:
                return
            pause_s = next(pauses)
            if give_up_at is None or time.monotonic() + pause_s >= give_up_at:
                raise last
            time.sleep(pause_s)

    def _one_round(self, give_up_at: float | None) -> BrokerUnavailable | None:
        last: BrokerUnavailable | None = None
        for _ in self.urls:
            self._url = next(self._order)
            left = None if give_up_at is None else max(give_up_at - time.monotonic(), 0.05)
            try:
                self._kombu = self._connect_to(self._url, left)
            except BrokerUnavailable as exc:
                last = exc
            else:
                return None
        return last

    def _connect_to(self, url: str, left_s: float | None) -> Any:
        limits = [limit for limit in (self._connect_timeout_s, left_s) if limit is not None]
        timeout_s = min(limits) if limits else None
        with self.translated():
            transport = transport_of(self._brokers[url])
            connection = _Connection(
                url,
                transport=transport,
                connect_timeout=timeout_s,
                transport_options=self._options_for(url, timeout_s),
                **self._kombu_options,
            )
            if transport is not None:
                connection.transport_cls = transport  # of sqla+postgresql:// kombu would take its own
            connection.transport  # noqa: B018  imports the library, which may be missing
        with self.translated(connection):
            try:
                connection.ensure_connection(
                    max_retries=1, interval_start=0, interval_step=0, interval_max=0, timeout=timeout_s
                )
            except BaseException:
                connection.collect()
                raise
        return connection

    def _options_for(self, url: str, timeout_s: float | None) -> dict[str, Any]:
        """Add what keeps a silent peer from holding a thread for ever, unless the user said it."""
        name = self._brokers[url].name
        if name in {"amqp", "amqps", "pyamqp"}:
            return {"read_timeout": _IO_TIMEOUT_S, "write_timeout": _IO_TIMEOUT_S, **self._transport_options}
        if name in {"redis", "rediss", "sentinel"}:
            limits = {"socket_timeout": _IO_TIMEOUT_S, "socket_connect_timeout": timeout_s, "socket_keepalive": True}
            return {**limits, **self._transport_options}
        return dict(self._transport_options)

    @contextmanager
    def translated(self, connection: Any = None) -> Iterator[None]:
        """Turn whatever kombu and its libraries raise inside the block into our errors.

        connection: the ``kombu.Connection`` that is used in it; the current one by default.
        Raises: BrokerUnavailable naming the URL without its password; ConfigError for a missing
        library.
        """
        try:
            yield
        except OpsqError:
            raise
        except ImportError as exc:
            raise ConfigError(_missing_library(self.broker.name, exc)) from exc
        except self._errors(connection or self._kombu) as exc:
            cause = exc.__cause__ if isinstance(exc, OperationalError) and exc.__cause__ else exc
            if isinstance(cause, OpsqError):
                raise cause from exc
            raise BrokerUnavailable(self._explain(cause)) from exc

    @staticmethod
    def _errors(connection: Any) -> tuple[type[BaseException], ...]:
        found: tuple[type[BaseException], ...] = (OSError, OperationalError, EOFError)
        if connection is not None:
            found += tuple(connection.connection_errors) + tuple(connection.channel_errors)
        return found

    def _explain(self, cause: BaseException) -> str:
        said = str(cause) or type(cause).__name__
        password = self._url.partition("://")[2].rpartition("@")[0].partition(":")[2]
        if password:
            said = said.replace(password, "**")
        remedy = "check that it runs and that host, port and login are right"
        if isinstance(cause, TimeoutError):
            remedy = "it did not answer in time; check the network and its load"
        return f"broker {self.sanitised_url}: {said}; {remedy}"

    def declare(self, channel: Any, spec: QueueSpec | ExchangeSpec) -> None:
        """Make sure an exchange exists, or a queue with its exchanges and bindings."""
        with self.translated():
            if isinstance(spec, ExchangeSpec):
                declare_exchange(channel, spec)
            else:
                declare_queue(channel, spec)

    def open_source(self, queues: Sequence[QueueSpec], *, no_ack: bool, prefetch: int) -> Source:
        """Return the stream of deliveries that a consumer reads; batched where the transport can."""
        with self.translated():
            own = getattr(self.kombu.transport, "open_source", None)
            if own is not None:
                source: Source = own(queues, no_ack=no_ack, prefetch=prefetch)
                return source
            return KombuSource(self.kombu, queues, no_ack=no_ack, prefetch=prefetch)

    def drop(self) -> None:
        """Forget a connection that was found broken, without talking to the broker."""
        connection, self._kombu = self._kombu, None
        if connection is not None and self._pid == os.getpid():
            with self._quietly():
                connection.collect(socket_timeout=CLOSE_S)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Say goodbye and close, in at most ``timeout_s``; then cut. Safe to call twice."""
        connection, self._kombu = self._kombu, None
        if connection is None or self._pid != os.getpid():
            return
        if self._brokers[self._url].name in {"sqlite", "memory"}:
            with self._quietly():
                connection.release()
            return
        if not connection.connected:  # found silent or cut: nobody would hear the goodbye
            with self._quietly():
                connection.collect(socket_timeout=0.1)
            return
        # A broker that hangs never answers the goodbye, and kombu would wait for ever.
        farewell = threading.Thread(target=self._say_goodbye, args=(connection,), name="opsq-close", daemon=True)
        farewell.start()
        farewell.join(timeout_s)
        if farewell.is_alive():
            with self._quietly():
                connection.collect(socket_timeout=0.1)

    def _say_goodbye(self, connection: Any) -> None:
        with self._quietly():
            connection.release()

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Let errors of the block pass when the connection is broken: what it closes is gone already."""
        try:
            with self.translated():
                yield
        except BrokerUnavailable as exc:
            log.debug("closing on a lost connection", extra={"error": str(exc)})
            self.drop()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Ignore errors of a connection that is being closed: nothing depends on it any more."""
        try:
            yield
        except (OSError, OperationalError, AttributeError, BrokerUnavailable):
            return

    def _forget_parents(self) -> None:
        """After a fork: keep the parent's connection untouched, closing it would close the parent's."""
        if self._pid != os.getpid():
            if self._kombu is not None:
                self._abandoned.append(self._kombu)
            self._kombu = None
            self._pid = os.getpid()


def open_connection(settings: Settings, *, purpose: Literal["read", "write"]) -> BrokerConnection:
    """Build, not yet connect, the connection that the settings describe.

    Raises: ConfigError for URLs that cannot be used.
    """
    options = dict(settings.broker_transport_options)
    urls = _split(settings.resolved_broker_url(purpose))
    if urls[0].startswith("sqlite:"):
        options.setdefault("synchronous", settings.broker_sqlite_synchronous)
        options.setdefault("poll_interval_s", settings.broker_sqlite_poll_interval)
        options.setdefault("lease_seconds", settings.lease_seconds)
    elif urls[0].startswith(("redis", "sentinel", "sqla", "sqs:", "mongodb")):
        options.setdefault("lease_seconds", settings.lease_seconds)
    if urls[0].startswith(("amqp:", "amqps:", "pyamqp:")):
        options.setdefault("delay_after_s", settings.broker_native_delayed_delivery_after)
        options.setdefault("delay_queue_type", settings.broker_native_delayed_delivery_queue_type)
    failover: Any = settings.broker_failover_strategy
    return BrokerConnection(
        urls,
        transport_options=options,
        connect_timeout_s=settings.broker_connection_timeout,
        failover=failover,
        use_ssl=settings.broker_use_ssl,
        # Nobody reads a publisher's connection between calls, so nobody would answer heartbeats there.
        heartbeat_s=settings.broker_heartbeat if purpose == "read" else None,
        login_method=settings.broker_login_method,
    )


def _split(urls: str | Sequence[str]) -> list[str]:
    """Return the URLs of a list or of a text with semicolons. Raises: ConfigError when there is none."""
    given = [urls] if isinstance(urls, str) else list(urls)
    found = [part.strip() for url in given for part in url.split(";") if part.strip()]
    if not found:
        raise ConfigError("broker URL: expected at least one, got none")
    return found


def _order(urls: list[str], failover: str | Callable[[list[str]], Iterable[str]] | None) -> Iterator[str]:
    if callable(failover):
        return iter(failover(list(urls)))
    if failover in (None, "round-robin"):
        return cycle(urls)
    if failover == "shuffle":
        return _shuffled(urls)
    raise ConfigError(f"broker_failover_strategy: expected round-robin, shuffle or a callable, got {failover!r}")


def _shuffled(urls: list[str]) -> Iterator[str]:
    while True:
        yield from random.sample(urls, len(urls))


def _missing_library(name: str, exc: ImportError) -> str:
    family = {"rediss": "redis", "sentinel": "redis", "sqla": "sqlalchemy"}.get(name, name)
    ours = family in {"redis", "sqlalchemy", "sqs", "mongodb"}
    cure = f'pip install "opsq[{family}]"' if ours else f'pip install "kombu[{family.lower()}]"'
    return f"the {name} broker needs a library that is not installed ({exc}); {cure}"
