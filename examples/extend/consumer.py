"""A consumer: the worker also reads a queue of another system, whose messages are no tasks.

app.steps["consumer"].add(SensorConsumer)

It belongs to the connection: when the broker is lost, the worker ends it and makes a new one with the next
connection. What it reads becomes calls of tasks.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Any, ClassVar

from opsq import Opsq
from opsq.bootsteps import Bootstep, Provided
from opsq.broker.connection import BrokerConnection, open_connection
from opsq.broker.consumer import Consumer
from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.topology import QueueSpec
from opsq.errors import BrokerUnavailable
from opsq.settings import Settings

log = logging.getLogger(__name__)

QUEUE = QueueSpec(name="sensors")
TASK = "examples.extend.record_reading"
"""Called with the sensor and its value, for each message like ``{"sensor": "hall", "celsius": 21.5}``."""


class SensorConsumer(Bootstep[None]):
    """Turns messages of the queue ``sensors`` into calls."""

    name: ClassVar[str] = "sensor-consumer"
    # The worker's own connection is up by then: if the broker is away, this step is not even tried.
    requires: ClassVar[tuple[type, ...]] = (Opsq, Settings, BrokerConnection)

    def __init__(self) -> None:
        self._connection: BrokerConnection | None = None
        self._consumer: Consumer | None = None
        self._thread: threading.Thread | None = None

    def start(self, up: Provided) -> None:
        """Read on a connection of its own: a connection belongs to one thread."""
        self._connection = open_connection(up[Settings], purpose="read")
        self._connection.connect()
        app = up[Opsq]
        self._consumer = Consumer(self._connection, [QUEUE], on_batch=lambda batch: self._take(app, batch), prefetch=10)
        self._thread = threading.Thread(target=self._run, name="sensor-consumer", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Let go of the queue; what was not settled is delivered again."""
        if self._consumer is not None and self._thread is not None:
            self._consumer.stop()
            self._thread.join(5.0)
        if self._connection is not None:
            self._connection.close()

    def _run(self) -> None:
        assert self._consumer is not None
        try:
            self._consumer.run()
        except BrokerUnavailable as error:
            log.warning("the sensors' queue is lost until the worker's connection is made anew: %s", error)

    def _take(self, app: Opsq, batch: list[Delivery]) -> None:
        assert self._consumer is not None
        done = []
        for delivery in batch:
            reading = _reading(delivery)
            if reading is not None:
                app.send_task(TASK, reading)
            # What cannot be read is refused: given back, it would come again for ever.
            done.append(Settlement(delivery.tag, Settle.REJECT if reading is None else Settle.ACK))
        self._consumer.settle(done)


def _reading(delivery: Delivery) -> tuple[str, float] | None:
    try:
        message: Any = json.loads(delivery.body)
        return str(message["sensor"]), float(message["celsius"])
    except (ValueError, KeyError, TypeError) as error:
        log.warning("not a reading: %s", error, extra={"body": delivery.body[:100]})
        return None
