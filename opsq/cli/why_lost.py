"""A task that no event told of: found with a worker, or among what waits in a queue, where the broker lets us look."""

from __future__ import annotations

import time
from typing import Any

from opsq.broker.connection import open_connection
from opsq.broker.depth import depth
from opsq.broker.message import Delivery
from opsq.broker.peek import can_peek, peek
from opsq.errors import OpsqError
from opsq.events.diagnosis.asking import FleetAsker
from opsq.events.records import TaskDetail, TaskItem, time_key
from opsq.settings import Settings
from opsq.wire import states

MOST_LOOKED_AT = 20_000
ANSWER_S = 1.0
_STATES = {"active": states.STARTED, "reserved": states.RECEIVED, "scheduled": states.RECEIVED}


def found_elsewhere(asker: FleetAsker, settings: Settings, id: str) -> tuple[TaskDetail | None, str]:
    """What workers or the queues know of the task; none and why, when that is nothing or they cannot be asked."""
    try:
        found = _with_a_worker(asker, id) or _in_a_queue(asker, settings, id)
    except OpsqError as error:
        return None, f"workers and queues could not be asked: {error}"
    return found, "no worker has it, and no queue that could be looked into holds it"


def _with_a_worker(asker: FleetAsker, id: str) -> TaskDetail | None:
    for node, answer in asker.ask("query_task", {"ids": [id]}, (), ANSWER_S).items():
        told = answer.get(id) if isinstance(answer, dict) else None
        if isinstance(told, list) and len(told) == 2 and isinstance(told[1], dict):
            info = told[1].get("delivery_info")
            queue = info.get("routing_key") if isinstance(info, dict) else None
            return _detail(id, _STATES.get(str(told[0]), states.RECEIVED), told[1].get("type"), queue, worker=node)
    return None


def _in_a_queue(asker: FleetAsker, settings: Settings, id: str) -> TaskDetail | None:
    """Look into the queues that workers take from, and the default one."""
    told = asker.ask("active_queues", {}, (), ANSWER_S).values()
    names = {str(each.get("name")) for queues in told if isinstance(queues, list) for each in queues}
    connection = open_connection(settings, purpose="read")
    try:
        connection.connect(ANSWER_S)
        if not can_peek(connection):
            return None
        for name in sorted(names | {settings.task_default_queue}):
            seen = depth(connection, [name]).get(name)
            if seen is None or not 0 < seen.ready <= MOST_LOOKED_AT:
                continue
            found = next((each for each in peek(connection, name) if _id_of(each).startswith(id)), None)
            if found is not None:
                headers = found.headers
                return _detail(_id_of(found), states.PENDING, headers.get("task"), name, eta=headers.get("eta"))
    finally:
        connection.close()
    return None


def _id_of(delivery: Delivery) -> str:
    return str(delivery.headers.get("id", ""))


def _detail(
    id: str, state: str, type: Any, queue: Any, *, worker: str | None = None, eta: Any = None
) -> TaskDetail:  # fmt: skip
    item = TaskItem(
        key=time_key(time.time()), id=id, state=state, type=type if isinstance(type, str) else None,
        queue=queue if isinstance(queue, str) else None, worker=worker, eta=eta if isinstance(eta, str) else None,
    )  # fmt: skip
    return TaskDetail(item=item, tries=())
