"""A worker inside the test's own process, and moments to wait for instead of sleeping.

with running_worker(app, pool="threads", concurrency=2) as worker:
    result = add.delay(2, 3)
    worker.wait("settled", result.id)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from opsq.broker.connection import open_connection
from opsq.broker.depth import depth
from opsq.broker.message import OutMessage
from opsq.broker.source import QueueDepth
from opsq.core.worker.worker import Worker

PATIENCE_S = 30.0


class Moment(NamedTuple):
    """Something a probe saw: ``received``, ``started``, ``settled``, ``ready`` or ``disconnected``."""

    what: str
    task_id: str
    detail: object


class Probes:
    """Collects moments; waits for them. Thread: any."""

    def __init__(self) -> None:
        self._seen: list[Moment] = []
        self._changed = threading.Condition()

    def __call__(self, what: str, task_id: str, detail: object) -> None:
        """Take one moment in."""
        with self._changed:
            self._seen.append(Moment(what, task_id, detail))
            self._changed.notify_all()

    def seen(self, what: str, task_id: str | None = None) -> list[Moment]:
        """The moments so far, of one task or of all."""
        with self._changed:
            return [each for each in self._seen if each.what == what and task_id in (None, each.task_id)]

    def wait(self, what: str, task_id: str | None = None, times: int = 1, timeout_s: float = PATIENCE_S) -> Moment:
        """Wait until it was seen ``times`` times; the last of these. Raises: AssertionError in vain."""

        def enough() -> bool:
            return len(self.seen(what, task_id)) >= times

        with self._changed:
            if not self._changed.wait_for(enough, timeout_s):
                known = [f"{each.what} {each.task_id}" for each in self._seen[-20:]]
                raise AssertionError(f"waited {timeout_s} s for {what} of {task_id or 'any task'}; last seen: {known}")
        return self.seen(what, task_id)[times - 1]

    def wait_for(self, true: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Wait until ``true()``, looked at after each moment. Raises: AssertionError in vain."""
        with self._changed:
            if not self._changed.wait_for(true, timeout_s):
                raise AssertionError(f"waited {timeout_s} s in vain")


class RunningWorker:
    """A started worker with its probes."""

    def __init__(self, worker: Worker, probes: Probes) -> None:
        self.worker = worker
        self.probes = probes
        self.wait = probes.wait
        self.seen = probes.seen
        self.wait_for = probes.wait_for

    @property
    def counters(self) -> dict[str, int]:
        """The worker's counts of what became of its deliveries."""
        return self.worker.ledger.counters

    def stop(self, timeout_s: float | None = PATIENCE_S) -> None:
        """Stop it; twice does no harm."""
        self.worker.stop(timeout_s)


@contextmanager
def running_worker(app: Any, *, stop_within_s: float = PATIENCE_S, **options: Any) -> Iterator[RunningWorker]:
    """Start a worker of ``app`` that is consuming when the block begins, and stop it at its end."""
    probes = Probes()
    worker = Worker(app, probe=probes, **options)
    running = RunningWorker(worker, probes)
    worker.start()
    try:
        probes.wait("ready")
        yield running
    finally:
        worker.stop(stop_within_s)


def waiting(app: Any, queue: str = "celery") -> QueueDepth:
    """What the broker says about a queue of ``app``. Raises: BrokerUnavailable."""
    connection = open_connection(app.settings, purpose="read")
    connection.connect()
    try:
        return depth(connection, [queue])[queue]
    finally:
        connection.close()


def send_raw(app: Any, body: bytes, headers: dict[str, Any], content_type: str = "application/json") -> None:
    """Publish a message to the default queue as a peer might that does not keep to the protocol."""
    queue = app.queues.default
    app.publisher.publish(
        OutMessage(
            body=body,
            content_type=content_type,
            content_encoding="utf-8",
            headers=headers,
            properties={"delivery_mode": 2},
            routing_key=queue.name,
            declare=queue,
        )
    )
