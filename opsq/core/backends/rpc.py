"""Results as messages to whoever sent the task: ``rpc://``, over the broker that carries the tasks.

Each state of a task is one message to the address in the task's ``reply_to``; the sender reads its
own queues on one thread and keeps the last state of each task in memory. Nobody else can read them:
another process, and chords, need a store.

Source: celery-protocol D.5.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from opsq.broker.connection import BrokerConnection, open_connection
from opsq.broker.consumer import Consumer
from opsq.broker.message import Delivery, OutMessage
from opsq.broker.publisher import Publisher
from opsq.broker.topology import QueueSpec
from opsq.core.backends.address import ADDRESS
from opsq.core.backends.base import Capabilities, Kind, Subscription
from opsq.core.backends.memory import MemoryBackend
from opsq.core.request import calling_request
from opsq.errors import BackendUnavailable, BrokerUnavailable, UsageError
from opsq.settings import Settings
from opsq.wire.content import DEFAULT_REGISTRY

log = logging.getLogger(__name__)

READY_S: Final = 15.0
CLOSE_S: Final = 5.0
RECONNECT_S: Final = 0.5
# States are kept for the sender until it forgets them; the oldest go when there are more.
MAX_RESULTS: Final = 1_000_000
_STATE_BYTES: Final = 4_096


class RpcBackend:
    """Sends states, and receives those of the tasks this process sent.

    connect: makes a connection for ``read`` or ``write``. serializer: of the result messages.
    ttl_s: seconds after which the queue of a sender that is gone goes too. persistent: messages
    survive a restart of the broker. unaddressed: states of tasks that nobody waits for, not sent.
    Thread: any; a forked child has queues of its own.
    """

    def __init__(
        self,
        connect: Callable[[str], BrokerConnection],
        *,
        serializer: str = "json",
        ttl_s: float | None = 86_400.0,
        persistent: bool = False,
        deadline_s: float | None = None,
    ) -> None:
        self._connect = connect
        found = DEFAULT_REGISTRY.find(serializer)
        self._content = (found.mime, found.encoding)
        self._ttl_s = ttl_s
        self._mode = 2 if persistent else 1
        self._publisher = Publisher(partial(connect, "write"), deadline_s=deadline_s)
        self._lock = threading.RLock()
        self._begin_anew()
        self.unaddressed = 0

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._states = MemoryBackend(max_entries=MAX_RESULTS)
        self._mailbox: _Mailbox | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return Capabilities(counts=False, expires=True, notifies=True, cross_process=False)

    # ---- who runs the task

    def put(self, kind: Kind, id: str, payload: bytes, *, state: str, ttl_s: float | None) -> bool:
        """Send a state to the task's sender; a task without an address is left out, as Celery does.

        Returns: whether it was sent. Raises: UsageError for a group, BackendUnavailable.
        """
        if kind != "task":
            raise UsageError(
                "rpc:// cannot save groups or chords: its results are messages to one process; "
                "set result_backend to a store, for example redis://"
            )
        request = calling_request()
        reply_to = request.reply_to if request is not None and request.id == id else ADDRESS.get()
        if not reply_to:
            self.unaddressed += 1
            return False
        message = OutMessage(
            body=payload,
            content_type=self._content[0],
            content_encoding=self._content[1],
            headers={},
            properties={"correlation_id": id, "delivery_mode": self._mode, "priority": 0},
            routing_key=reply_to,
        )
        try:
            self._publisher.publish(message)
        except BrokerUnavailable as exc:
            raise BackendUnavailable(f"the result of {id} could not be sent: {exc}") from exc
        return True

    # ---- who sent it

    def expect(self, reply_to: str) -> None:
        """Read the queue ``reply_to`` from now on; to be called before the task is published.

        Raises: BackendUnavailable when the broker does not answer.
        """
        with self._lock:
            if self._pid != os.getpid():
                self._begin_anew()
            if self._mailbox is None:
                self._mailbox = _Mailbox(self._connect("read"), self._received)
            self._mailbox.read(self._queue(reply_to))

    def _queue(self, reply_to: str) -> QueueSpec:
        return QueueSpec(name=reply_to, auto_delete=True, expires_s=self._ttl_s)

    def _received(self, batch: list[Delivery]) -> None:
        for each in batch:
            id = each.properties.get("correlation_id")
            if isinstance(id, str) and id:
                self._states.put("task", id, each.body, state=_state_of(each.body), ttl_s=self._ttl_s)

    def _own(self) -> MemoryBackend:
        if self._mailbox is None or self._pid != os.getpid():
            raise UsageError(
                "rpc:// results reach only the process that sent the task, and this one has sent none; "
                "to read them elsewhere set result_backend to a store, for example redis://"
            )
        return self._states

    def get(self, kind: Kind, id: str) -> bytes | None:
        """Read the last state that came, or none. Raises: UsageError in a process that sent nothing."""
        return self._own().get(kind, id)

    def get_many(self, kind: Kind, ids: Sequence[str]) -> dict[str, bytes]:
        """Read several; missing ids are absent."""
        return self._own().get_many(kind, ids)

    def forget(self, kind: Kind, ids: Iterable[str]) -> None:
        """Drop what came."""
        self._states.forget(kind, ids)

    def subscribe(self, ids: Sequence[str]) -> Subscription:
        """Ask to be told when a state comes."""
        return self._own().subscribe(ids)

    def cleanup(self, now: float) -> int:
        """Drop what is older than the time to keep it."""
        return self._states.cleanup(now)

    def close(self) -> None:
        """Stop reading; queues that nobody reads go by themselves. Twice does no harm."""
        with self._lock:
            mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None and self._pid == os.getpid():
            mailbox.close()
        self._publisher.close()


class _Mailbox:
    """The thread that reads the reply queues of this process. Thread: any for every method."""

    def __init__(self, connection: BrokerConnection, on_batch: Callable[[list[Delivery]], None]) -> None:
        self._connection = connection
        self._on_batch = on_batch
        self._stopping = threading.Event()
        self._failed = ""
        self._queues: set[str] = set()
        self._consumer: Consumer | None = None
        self._thread: threading.Thread | None = None

    def read(self, queue: QueueSpec) -> None:
        """Return when the queue is declared and read. Raises: BackendUnavailable."""
        if queue.name in self._queues:
            return
        if self._consumer is None:
            self._consumer = Consumer(self._connection, [queue], on_batch=self._on_batch, no_ack=True)
            self._thread = threading.Thread(target=self._run, args=(self._consumer,), name="opsq-replies", daemon=True)
            self._thread.start()
        else:
            self._consumer.add_queue(queue)
        reading = threading.Event()
        self._consumer.call_soon(reading.set)
        if not reading.wait(READY_S):
            raise BackendUnavailable(
                f"the queue for results could not be opened within {READY_S:g} s on {self._connection.sanitised_url}"
                + (f": {self._failed}" if self._failed else "")
            )
        self._queues.add(queue.name)

    def _run(self, consumer: Consumer) -> None:
        while not self._stopping.is_set():
            try:
                consumer.run()
            except BrokerUnavailable as exc:
                self._failed = str(exc)
                self._connection.drop()
                log.warning(
                    "the connection for results is lost; results that were sent meanwhile are lost",
                    extra={"error": str(exc)},
                )
                self._stopping.wait(RECONNECT_S)

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._consumer is not None:
            self._consumer.stop()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
        self._connection.close()


def _state_of(body: bytes) -> str:
    """Say whether this is a final success; only that is kept from being replaced by what came out of order."""
    head = body[:_STATE_BYTES]
    return "SUCCESS" if b'"status":"SUCCESS"' in head or b'"status": "SUCCESS"' in head else ""


def open_rpc(url: str, settings: Settings) -> RpcBackend:
    """Make the backend; it connects at first use. url: ``rpc://``, which says no more than that."""

    def connect(purpose: Any) -> BrokerConnection:
        return open_connection(settings, purpose=purpose)

    return RpcBackend(
        connect,
        serializer=settings.result_serializer,
        ttl_s=settings.result_expires or None,
        persistent=bool(settings.result_persistent),
        deadline_s=settings.publish_timeout,
    )
