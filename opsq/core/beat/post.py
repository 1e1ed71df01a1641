"""Publishing a tick, and finding out whether one was published.

On SQLite and Redis the call goes together with a **mark**, one small message with the tick's id in a queue that nobody
consumes: both arrive or neither. Whoever takes over from a leader that died between publishing and writing it down
reads the marks, and neither repeats nor loses a tick. Other brokers cannot tell; there the tick is published again
under the same id, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from opsq.broker.message import OutMessage
from opsq.broker.peek import can_peek, peek
from opsq.broker.topology import QueueSpec
from opsq.core.schedules.entry import BeatLazyFunc, Entry

MARKS_KEPT: Final = 500
MARK_EXPIRES_MS: Final = str(7 * 86_400_000)


class Post:
    """The way out of one beat. Thread: the leading loop's. identity: of the schedule, part of the queue's name."""

    def __init__(self, app: Any, identity: str) -> None:
        self._app = app
        self._queue = QueueSpec(name=f"opsq.beat.{identity[:8]}")
        self._marks = 0
        self._marking: bool | None = None

    def send(self, entry: Entry, id: str, due: float, timeout_s: float) -> None:
        """Publish one call. Raises: BrokerUnavailable, and whatever is wrong with the call."""
        app = self._app
        options: dict[str, Any] = {
            **entry.options,
            "task_id": id,
            "timeout": timeout_s,
            "headers": {
                **(entry.options.get("headers") or {}),
                "celery_beat_task": True,
                "periodic_task_name": entry.name,
                "opsq_due_at": due,
            },
        }
        if self.marks():
            options["publisher"] = _Marked(app.publisher, self._mark(id))
            self._marks += 1
        args = [_now(each) for each in entry.args]
        kwargs = {name: _now(each) for name, each in entry.kwargs.items()}
        task = app.tasks.get(entry.task)
        if task is not None:
            task.apply_async(args, kwargs, **options)
        else:
            app.send_task(entry.task, args, kwargs, **options)

    def marks(self) -> bool:
        """Whether this broker takes a call and its mark together. Raises: BrokerUnavailable."""
        if self._marking is None:
            connection = self._connected()
            try:
                self._marking = can_peek(connection)
            finally:
                connection.close()
        return self._marking

    def published(self) -> frozenset[str] | None:
        """The ids of the ticks that were published lately; None where it cannot be told. Raises: BrokerUnavailable."""
        if not self.marks():
            return None
        connection = self._connected()
        try:
            found = peek(connection, self._queue.name)
        finally:
            connection.close()
        self._marks = len(found)
        return frozenset(str(each.properties.get("correlation_id")) for each in found)

    def trim(self, least: int = MARKS_KEPT) -> None:
        """Forget the marks; only while nothing is in doubt. Raises: BrokerUnavailable."""
        if self._marks >= least:
            self._app.purge_queue(self._queue.name)
            self._marks = 0

    def _connected(self) -> Any:
        connection = self._app.connection("write")
        connection.connect()
        return connection

    def _mark(self, id: str) -> OutMessage:
        return OutMessage(
            body=id.encode(),
            content_type="text/plain",
            content_encoding="utf-8",
            headers={},
            properties={"delivery_mode": 2, "correlation_id": id, "expiration": MARK_EXPIRES_MS},
            routing_key=self._queue.name,
            declare=self._queue,
        )


class _Marked:
    """The app's publisher, with a mark put to what it sends."""

    def __init__(self, publisher: Any, mark: OutMessage) -> None:
        self._publisher = publisher
        self._mark = mark

    def publish_many(self, messages: Sequence[OutMessage], **more: Any) -> None:
        """Publish together. Raises: BrokerUnavailable."""
        self._publisher.publish_many([*messages, self._mark], **more)


def _now(value: Any) -> Any:
    return value() if isinstance(value, BeatLazyFunc) else value
