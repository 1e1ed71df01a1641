"""A producer: messages for another system, over the app's own publisher.

``announce`` is for any code that has the app; ``Greeter`` is a worker step that sends one when the worker has
started and one when it stops.

app.steps["worker"].add(Greeter)
"""

from __future__ import annotations

import json
import time
from typing import ClassVar

from opsq import Opsq
from opsq.bootsteps import Bootstep, Provided
from opsq.broker.message import OutMessage
from opsq.broker.topology import QueueSpec
from opsq.core.worker.owner import Owner
from opsq.core.worker.plan import WorkerPlan

QUEUE = QueueSpec(name="announcements")


def announce(app: Opsq, **what: object) -> None:
    """Send one JSON object to the queue ``announcements``, which is made when it does not exist.

    It goes by the same connection, retries and confirms as the calls of tasks. Raises: BrokerUnavailable.
    """
    app.publisher.publish(
        OutMessage(
            body=json.dumps({**what, "at": time.time()}).encode(),
            content_type="application/json",
            content_encoding="utf-8",
            headers={},
            properties={"delivery_mode": 2},
            routing_key=QUEUE.name,
            declare=QUEUE,
        )
    )


class Greeter(Bootstep[None]):
    """Announces the worker."""

    name: ClassVar[str] = "greeter"
    requires: ClassVar[tuple[type, ...]] = (Opsq, WorkerPlan, Owner)

    def __init__(self) -> None:
        self._app: Opsq | None = None
        self._worker = ""

    def start(self, up: Provided) -> None:
        """Say hello."""
        self._worker = up[WorkerPlan].hostname
        announce(up[Opsq], worker=self._worker, is_up=True)
        self._app = up[Opsq]

    def stop(self, deadline: float) -> None:
        """Say goodbye, if hello was said."""
        if self._app is not None:
            announce(self._app, worker=self._worker, is_up=False)
            self._app = None
