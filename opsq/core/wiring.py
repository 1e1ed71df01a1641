"""What an app uses once its settings are fixed: queues, router, sender, publisher, result store.

Each is made at first use, so that an app that only declares tasks opens nothing. The parts that need
kombu, redis or sqlite3 are imported by name at that moment: ``import opsq`` must stay light.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from opsq import plugins
from opsq.broker.retry import NO_RETRY, retry_policy
from opsq.clock import Clock, LamportClock
from opsq.control.addresses import addresses_of
from opsq.core.backends.registry import open_backend
from opsq.core.calls import Caller
from opsq.core.content_types import with_added
from opsq.core.origin import Origin
from opsq.core.queues import Queues
from opsq.core.result_store import ResultStore
from opsq.core.routing import Router
from opsq.core.security import content_registry
from opsq.core.sending import Sender
from opsq.errors import ConfigError
from opsq.settings import Settings
from opsq.wire.content import accept_set

if TYPE_CHECKING:
    from opsq.broker.connection import BrokerConnection
    from opsq.broker.publisher import Publisher
    from opsq.control.client import Control
    from opsq.core.app import Opsq


class Wiring:
    """The parts of one app. Thread: any.

    Raises: ConfigError for settings that no part can be made of.
    """

    def __init__(self, app: Opsq, settings: Settings, origin: Origin, clock: Clock) -> None:
        if settings.task_protocol != 2:
            raise ConfigError(
                "opsq publishes task protocol 2 only, which Celery reads since version 4; "
                "remove task_protocol (messages of protocol 1 are still received)"
            )
        self.settings = settings
        self.serializers = with_added(settings, content_registry(settings, app.signing, clock.now))
        self.queues = Queues(settings)
        self.router = Router(settings.task_routes, self.queues, partial(plugins.resolve, origin="task_routes"))
        self.caller = Caller(settings, self.router, origin, clock, LamportClock(), self.serializers)
        self.sender = Sender(app, settings)
        self._lock = threading.RLock()

    @cached_property
    def store(self) -> ResultStore:
        """The result store; connects at first use."""
        with self._lock:
            settings = self.settings
            return ResultStore(open_backend(settings.resolved_result_backend(), settings), settings, self.serializers)

    @cached_property
    def publisher(self) -> Publisher:
        """The publisher; connects at first use."""
        with self._lock:
            settings = self.settings
            make: Any = plugins.resolve("opsq.broker.publisher:Publisher")
            policy = retry_policy(settings.task_publish_retry_policy) if settings.task_publish_retry else NO_RETRY
            publisher: Publisher = make(
                partial(self.connection, "write"),
                policy,
                deadline_s=settings.publish_timeout,
                confirm=settings.publish_confirm,
                buffer=settings.publish_buffer_size,
                max_bytes=settings.message_max_bytes,
            )
            return publisher

    @cached_property
    def control(self) -> Control:
        """The client of remote control."""
        mailer: Any = plugins.resolve("opsq.control.mailer:Mailer")
        make: Any = plugins.resolve("opsq.control.client:Control")
        book: Any = plugins.resolve("opsq.control.standing:StandingBook")
        settings = self.settings
        control: Control = make(
            mailer(
                partial(self.connection, "read"),
                lambda message: self.publisher.publish(message),
                addresses_of(settings),
                serializer=settings.task_serializer,
                accept=accept_set(settings.accept_content, self.serializers),
                serializers=self.serializers,
            ),
            lambda: sum(self.purge(queue.name) for queue in self.queues.declared),
            book(partial(self.connection, "write"), settings.worker_revoke_expires),
        )
        return control

    def connection(self, purpose: str) -> BrokerConnection:
        """A new connection, not yet connected. purpose: ``read`` or ``write``."""
        open_connection: Any = plugins.resolve("opsq.broker.connection:open_connection")
        connection: BrokerConnection = open_connection(self.settings, purpose=purpose)
        return connection

    def depths(self, names: Sequence[str]) -> dict[str, int]:
        """How many messages wait in each of these queues that exists. Raises: BrokerUnavailable."""
        depth: Any = plugins.resolve("opsq.broker.depth:depth")
        with self._connected() as connection:
            return {name: found.ready for name, found in depth(connection, names).items()}

    def purge(self, queue: str) -> int:
        """Delete all messages that wait in ``queue``; how many. Raises: BrokerUnavailable."""
        if queue not in self.depths([queue]):
            return 0
        with self._connected() as connection, connection.translated():
            return int(connection.kombu.channel().queue_purge(queue) or 0)

    @contextmanager
    def _connected(self) -> Iterator[BrokerConnection]:
        connection = self.connection("read")
        connection.connect()
        try:
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """Close what was opened. Twice does no harm; later use opens it again."""
        for name in ("publisher", "store"):
            part = self.__dict__.pop(name, None)
            if part is not None:
                part.close()
