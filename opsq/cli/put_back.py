"""Put a message that was set aside back on its queue: the same for the command and for the page."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from opsq.broker.browse import Browser
from opsq.broker.message import Delivery
from opsq.broker.topology import queue_named
from opsq.core.worker.quarantine import Evidence, released
from opsq.errors import OpsqError, UsageError
from opsq.wire.states import FAILURE


class PutBack(NamedTuple):
    """Where a message went. failure_stays: why the stored failure of the run before could not be forgotten."""

    queue: str
    failure_stays: str | None


def put_back(app: Any, browser: Browser, delivery: Delivery, evidence: Evidence) -> PutBack:
    """Publish it as it was, then take it out of the quarantine. Raises: UsageError, BrokerUnavailable."""
    message = released(delivery, evidence)
    if message is None:
        raise UsageError(f"nothing tells where the message {evidence.id} came from, so it cannot be put back")
    queue = evidence.queue or evidence.routing_key
    if message.exchange == "" and not browser.exists(queue):
        message = msgspec.structs.replace(message, declare=queue_named(queue))  # or it would go nowhere
    stays = _forget_failure(app, evidence.id)  # before it can run, or the result of that would be forgotten
    app.publisher.publish(message)
    browser.remove(delivery)
    return PutBack(queue, stays)


def _forget_failure(app: Any, task_id: str) -> str | None:
    """Have whoever waits for the result wait on: what is stored is the failure of the run before."""
    result = app.AsyncResult(task_id)
    try:
        if result.state == FAILURE:
            result.forget()
    except OpsqError as error:  # no store, or it is away: the next run overwrites what is there
        return str(error)
    return None
