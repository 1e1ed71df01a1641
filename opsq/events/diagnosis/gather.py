"""Putting a case together: what the monitor knows, and over it what workers and broker answered.

Reads through ``Query`` and ``Views`` alone, so that it works the same beside a monitor and from a history file.
Thread: any; blocks on the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import structs

from opsq.broker.standing import PAUSED_QUEUE, PAUSED_TASK, REVOKED, StandingOrder
from opsq.events.diagnosis.answers import Looked, moment
from opsq.events.diagnosis.asking import Question
from opsq.events.diagnosis.case import (
    BROKER,
    ENDED,
    SLOT,
    UP,
    Case,
    Line,
    Node,
    Orders,
    Usual,
)
from opsq.events.diagnosis.nodes import FINAL, MOST_NODES, Sight, located, nodes_of
from opsq.events.diagnosis.slower import LEAST_RUNS, Slower, slower
from opsq.events.grammar import Every, Named, When
from opsq.events.grammar import Query as Grammar
from opsq.events.query import Query
from opsq.events.records import QueueItem, TaskDetail, TaskTypeItem
from opsq.events.search import Search, literal, of
from opsq.events.views import Views
from opsq.wire import states

DAY_S: Final = 86_400.0
HOUR_S: Final = 3_600.0
RATES_S: Final = 60.0
PACE_S: Final = 600.0
MOST_BESIDE: Final = 200


def sight(query: Query, views: Views) -> Sight:
    """Read everything anew."""
    return Sight(query, views, query.task_types)


def queue_of(task: TaskDetail) -> str | None:
    """The queue of a task; a Celery worker tells only the routing key, which is the queue's name by default."""
    return task.item.queue or task.routing_key


def question_of(query: Query, task: TaskDetail | None, queue: str | None) -> Question:
    """Whom to ask: those who take from the queue, and the one who has the task."""
    id = task.item.id if task is not None else ""
    if task is not None and task.item.state in FINAL:
        return Question(id, queue)
    holder = task.item.worker if task is not None and task.item.state in (states.RECEIVED, states.STARTED) else None
    known = [worker for worker in query.workers() if worker.status in UP]
    nodes = {worker.name for worker in known if queue is None or queue in worker.queues or not worker.queues}
    if holder is not None:
        nodes.add(holder)
    return Question(id, queue, tuple(sorted(nodes)[:MOST_NODES]), holder)


def task_case(
    seen: Sight, task: TaskDetail, looked: Looked, *, now: float, lease_s: float,
    stored: str | None = None,
) -> Case:  # fmt: skip
    """The case of one task. lease_s: of the broker. stored: its state in the result store, None when not looked."""
    item, queue = task.item, queue_of(task)
    nodes = nodes_of(seen, queue, looked, item.worker)
    heard_at = _heard_at(task)
    if looked.at < heard_at:  # what its worker held then says nothing of now
        nodes = tuple(structs.replace(node, reserved=None, waiting=None) for node in nodes)
    where, holder = located(task, nodes)
    line = _line(seen.query, queue, looked, task if where == BROKER else None, now) if queue is not None else None
    lacks = [*(looked.lacks if where != ENDED else ()), *([] if queue is not None else ["no event told its queue"])]
    return Case(
        now=now,
        task=task,
        line=line,
        nodes=nodes,
        where=where,
        holder=holder,
        eta_at=_eta(task, holder, where),
        expires_at=moment(task.expires),
        orders=_orders(looked, item.id, queue, item.type),
        usual=usual_runs(seen.types(DAY_S)),
        pace=usual_runs(seen.types(PACE_S), LEAST_RUNS),
        driver=looked.driver,
        lease_s=lease_s,
        lacks=tuple(lacks),
        stored=stored,
        answered_after_s=looked.at - heard_at,
        slower=_slower(seen, nodes, line),
    )


def queue_case(seen: Sight, queue: str, looked: Looked, *, now: float, lease_s: float) -> Case:
    """The case of one queue: why what waits in it does not run."""
    line, nodes = _line(seen.query, queue, looked, None, now), nodes_of(seen, queue, looked, None)
    return Case(
        now=now,
        task=None,
        line=line,
        nodes=nodes,
        where=BROKER,
        orders=_orders(looked, "", queue, None),
        usual=usual_runs(seen.types(DAY_S)),
        pace=usual_runs(seen.types(PACE_S), LEAST_RUNS),
        driver=looked.driver,
        lease_s=lease_s,
        lacks=looked.lacks,
        slower=_slower(seen, nodes, line),
    )


def _slower(seen: Sight, nodes: Sequence[Node], line: Line | None) -> Slower | None:
    """Whether the type that fills most slots of the queue's workers, all of them, runs longer than it did."""
    serving = [node for node in nodes if node.consumes and node.alive]
    types = Counter(one.type for node in serving for one in node.running or () if one.type is not None)
    full = all(node.slots is not None and (node.busy_slots or 0) >= node.slots for node in serving)
    if line is None or not types or not full:
        return None
    type = types.most_common(1)[0][0]
    told = [(entry.at, entry.detail) for node in serving for entry in seen.views.worker_history(node.name)
            if entry.what == "version"]  # fmt: skip
    return slower(type, seen.query.series(HOUR_S, type=type, width_s=60), told)


def usual_runs(types: Iterable[TaskTypeItem], least: int = 1) -> dict[str, Usual]:
    """How long each type runs, of those of which at least so many runs were measured."""
    return {
        one.name: Usual(one.total_s / max(1, one.run.count), one.run.p50, one.run.p95)
        for one in types
        if one.run is not None and one.run.count >= least
    }


def _heard_at(task: TaskDetail) -> float:
    """The latest moment that events tell of the task; what was answered before that is older than they are."""
    times = [
        at for one in task.tries for at in (one.published_at, one.delivered_at, one.slot_at, one.started_at) if at
    ]  # fmt: skip
    return max(times, default=0.0)


def _eta(task: TaskDetail, holder: Node | None, where: str) -> float | None:
    """The moment before which it must not run, by its worker or by its events."""
    waiting = holder.waiting if holder is not None and holder.waiting is not None else ()
    told = next((one.eta_at for one in waiting if one.id == task.item.id), None)
    return told if told is not None or where in (SLOT, ENDED) else moment(task.item.eta)


def _line(query: Query, queue: str, looked: Looked, task: TaskDetail | None, now: float) -> Line:
    item = next((one for one in query.queues() if one.name == queue), QueueItem(name=queue))
    depth = looked.depth
    before, exact = _before(query, queue, task, now) if task is not None else (None, True)
    arrived, done = _rates(query, queue)
    waiting = query.facets(of(queue=literal(queue), state="waiting")).type
    return Line(
        name=queue,
        ready=depth.ready if depth is not None else item.ready,
        oldest_age_s=depth.oldest_age_s if depth is not None else item.oldest_age_s,
        consumers=depth.consumers if depth is not None else item.consumers,
        arrived_per_s=arrived,
        done_per_s=done,
        before=before,
        before_exact=exact,
        mix={one.value: one.count for one in waiting if one.value is not None},
    )


def _before(query: Query, queue: str, task: TaskDetail, now: float) -> tuple[int | None, bool]:
    """How many tasks of the queue waited already when this one was published, and whether that is exact."""
    if not task.tries:
        return None, True  # no event told of it, so nothing tells what was before it
    at = task.item.at
    waiting = (Named("state", (states.PENDING,)), Named("queue", (literal(queue),)))
    earlier = query.tasks(Search(Grammar(Every((*waiting, When(True, at=at)))), now), limit=1)
    # Rows are placed to the millisecond; within it, their own times tell.
    within = Every((*waiting, When(False, at=at), When(True, at=at + 0.001)))
    beside = query.tasks(Search(Grammar(within), now), limit=MOST_BESIDE, counted=False)
    mine = task.item.published_at or at
    if earlier.total is None:
        return None, True
    before = sum(1 for one in beside.items if (one.published_at or at) < mine)
    return earlier.total + before, not earlier.at_least and beside.older is None


def _rates(query: Query, queue: str) -> tuple[float | None, float | None]:
    points = [point for point in query.series(RATES_S + 10, queue=queue, width_s=10) if not point.open]
    length_s = sum(point.width_s for point in points)
    if not length_s:
        return None, None
    return sum(point.arrived for point in points) / length_s, sum(point.done for point in points) / length_s


def _orders(looked: Looked, id: str, queue: str | None, type: str | None) -> Orders:
    if looked.orders is None:
        reason = "this broker keeps no standing orders" if looked.driver else "the broker was not asked"
        return Orders(False, reason)

    def the(kind: str, name: str | None) -> StandingOrder | None:
        return next((each for each in looked.orders or () if each.kind == kind and each.name == name), None)

    return Orders(True, "", the(REVOKED, id), the(PAUSED_QUEUE, queue), the(PAUSED_TASK, type))
