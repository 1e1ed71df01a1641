"""The workers of a case, and where its task is: what they answered, over what the monitor knows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import structs

from opsq.events.diagnosis.answers import Answer, Looked
from opsq.events.diagnosis.case import BROKER, ENDED, NOWHERE, SLOT, WORKER, Node, Request
from opsq.events.evidence import FINAL_STATES
from opsq.events.query import Query
from opsq.events.records import TaskDetail, TaskTypeItem, WorkerItem
from opsq.events.search import literal, of
from opsq.events.views import Views
from opsq.wire import states

MOST_NODES: Final = 50
MOST_RUNNING: Final = 200
FINAL: Final = frozenset(name for _, name in FINAL_STATES)
_WHERE: Final[Mapping[str, str]] = {
    states.PENDING: BROKER, states.RETRY: BROKER, states.RECEIVED: WORKER, states.STARTED: SLOT,
}  # fmt: skip


class Sight(NamedTuple):
    """What a case is gathered from. types: task types over a window in seconds, which pages share among viewers."""

    query: Query
    views: Views
    types: Callable[[float], Sequence[TaskTypeItem]]


def nodes_of(seen: Sight, queue: str | None, looked: Looked, holder: str | None) -> tuple[Node, ...]:
    """The workers that matter to a queue and to who has the task, answers over what the monitor knows."""
    known = {worker.name: worker for worker in seen.query.workers()}
    names = [*known, *(name for name in looked.answers if name not in known)]
    if holder is not None and holder not in names:
        names.append(holder)
    found = [_node(name, known.get(name), queue, looked) for name in names]
    relevant = [node for node in found if node.consumes is not False or node.name == holder or node.answered]
    return tuple(_with_life(_with_running(node, seen.query), seen.views) for node in relevant[:MOST_NODES])


def _node(name: str, item: WorkerItem | None, queue: str | None, looked: Looked) -> Node:
    answer = looked.answers.get(name)
    asked = bool(looked.at) and (not looked.asked or name in looked.asked) and not _unasked(looked)
    told = answer or Answer()
    queues = told.queues if told.queues is not None else (item.queues or None) if item is not None else None
    node = Node(
        name=name,
        consumes=None if queues is None or queue is None else queue in queues,
        answered=True if answer is not None else False if asked else None,
        running=told.running,
        reserved=told.reserved,
        waiting=told.waiting,
        registered=told.registered,
        revoked=told.revoked,
        slots=told.slots,
        pool=told.pool,
        ours=told.ours,
    )
    if item is None:
        return node
    paused = item.details.get("paused")
    return structs.replace(
        node,
        status=item.status,
        last_seen_at=item.last_seen_at,
        slots=item.slots if item.slots is not None else node.slots,
        busy=item.busy if item.busy is not None else item.active,
        pool=item.pool or node.pool,
        ours=node.ours if node.ours is not None else (item.software or "").startswith("opsq"),
        paused=tuple(str(each) for each in paused) if isinstance(paused, list) else (),
    )


def _unasked(looked: Looked) -> bool:
    """Whether asking itself failed, so that silence says nothing about a worker."""
    return not looked.answers and any("could not be asked" in each or "broker" in each for each in looked.lacks)


def _with_running(node: Node, query: Query) -> Node:
    """What runs there by events, where the worker did not answer itself."""
    if node.running is not None or node.status == "unknown":
        return node
    found = query.tasks(of(worker=literal(node.name), state="running"), limit=MOST_RUNNING, counted=False).items
    running = tuple(Request(one.id, one.type, one.started_at) for one in found)
    return structs.replace(node, running=running if running or node.busy == 0 else None)


def _with_life(node: Node, views: Views) -> Node:
    """When this process of it took the place of another; a first start is only when it was first heard."""
    begun = [entry.at for entry in views.worker_history(node.name) if entry.what == "restarted"]
    return structs.replace(node, replaced_at=max(begun)) if begun else node


def located(task: TaskDetail, nodes: Sequence[Node]) -> tuple[str, Node | None]:
    """Where the task is: what workers answer counts more than events, which may be late."""
    item = task.item
    if item.state in FINAL:
        return ENDED, _named(nodes, item.worker)
    for node in nodes:
        for listed, where in ((node.running, SLOT), (node.reserved, WORKER), (node.waiting, WORKER)):
            if node.answered and listed is not None and any(one.id == item.id for one in listed):
                return where, node
    where = _WHERE.get(item.state, NOWHERE)
    return where, _named(nodes, item.worker) if where in (WORKER, SLOT) else None


def _named(nodes: Sequence[Node], name: str | None) -> Node | None:
    return next((node for node in nodes if node.name == name), None)
