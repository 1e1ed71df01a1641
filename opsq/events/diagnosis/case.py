"""The evidence of one case, gathered from the monitor and from what workers and broker answered. No I/O here.

Anything that is not known is ``None``: a check that needs it answers ``unknown``, never ``no``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from opsq.broker.standing import StandingOrder
from opsq.events.diagnosis.slower import Slower
from opsq.events.records import TaskDetail
from opsq.events.workers import LATE, LOST, OFFLINE, ONLINE

BROKER: Final = "broker"
WORKER: Final = "worker"
SLOT: Final = "slot"
ENDED: Final = "ended"
NOWHERE: Final = "unknown"
#: An answer so much later than the latest event is not contradicted by one that is on its way.
SETTLES_S: Final = 3.0
UP: Final = frozenset({ONLINE, LATE})
GONE: Final = frozenset({LOST, OFFLINE})


class Request(Struct, frozen=True):
    """A task that a worker has. since_at: when it started. eta_at: what it is held for."""

    id: str
    type: str | None
    since_at: float | None = None
    eta_at: float | None = None


class Node(Struct, frozen=True, kw_only=True):
    """One worker. status: by its heartbeats, ``unknown`` to a monitor that never heard it.

    answered: whether it answered when it was asked just now, None when nobody asked. running, reserved, waiting: what
    it has in slots, ready for one, and held for a time or a rate, each in its order. registered: task name -> rate
    limit as written. revoked: whether it holds this task for revoked. replaced_at: when this process of it took
    the place of another. paused: of its heartbeat, ``queue NAME`` and ``task NAME``.
    """

    name: str
    status: str = "unknown"
    last_seen_at: float | None = None
    replaced_at: float | None = None
    consumes: bool | None = None
    slots: int | None = None
    busy: int | None = None
    pool: str | None = None
    ours: bool | None = None
    answered: bool | None = None
    running: tuple[Request, ...] | None = None
    reserved: tuple[Request, ...] | None = None
    waiting: tuple[Request, ...] | None = None
    registered: Mapping[str, str | None] | None = None
    revoked: bool | None = None
    paused: tuple[str, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether it is taken to be there: an answer counts more than heartbeats."""
        return bool(self.answered) or self.status == ONLINE or (self.status == LATE and self.answered is None)

    def lists(self, id: str) -> bool:
        """Whether it answered that it has this task."""
        listed = [*(self.running or ()), *(self.reserved or ()), *(self.waiting or ())]
        return bool(self.answered) and any(one.id == id for one in listed)

    @property
    def busy_slots(self) -> int | None:
        """How many of its slots are taken."""
        return len(self.running) if self.running is not None else self.busy


class Line(Struct, frozen=True, kw_only=True):
    """One queue. before: how many wait before this task, ``before_exact`` or at least so many. mix: type -> waiting."""

    name: str
    ready: int | None = None
    oldest_age_s: float | None = None
    consumers: int | None = None
    arrived_per_s: float | None = None
    done_per_s: float | None = None
    before: int | None = None
    before_exact: bool = True
    mix: Mapping[str, int] = {}


class Usual(Struct, frozen=True):
    """How long tasks of a type run, in seconds, over the last day."""

    mean_s: float
    p50_s: float
    p95_s: float


class Orders(Struct, frozen=True):
    """Standing orders that touch the case. known: false when nobody could say, ``reason`` tells why."""

    known: bool = False
    reason: str = "nobody was asked"
    revoked: StandingOrder | None = None
    queue_paused: StandingOrder | None = None
    type_paused: StandingOrder | None = None


class Case(Struct, frozen=True, kw_only=True):
    """Everything that is known. where: in the broker, with a worker, in a slot, ended, or unknown.

    holder: the worker that has it. driver: kind of broker; lease_s: how long a dead worker's deliveries stay with it
    there. usual: runs of the last day by type; pace: those of the last minutes. slower: of the type that fills most
    slots. stored: its state in the result store.
    answered_after_s: how much later than its latest event workers were asked. lacks: what could not be
    found out, and why.
    """

    now: float
    task: TaskDetail | None
    line: Line | None
    nodes: tuple[Node, ...]
    where: str
    holder: Node | None = None
    eta_at: float | None = None
    expires_at: float | None = None
    orders: Orders = Orders()
    usual: Mapping[str, Usual] = {}
    pace: Mapping[str, Usual] = {}
    driver: str = ""
    lease_s: float = 30.0
    lacks: tuple[str, ...] = ()
    stored: str | None = None
    slower: Slower | None = None
    answered_after_s: float = 3_600.0

    @property
    def id(self) -> str:
        """The task's id; empty for a queue."""
        return self.task.item.id if self.task is not None else ""

    @property
    def type(self) -> str | None:
        """The task's name."""
        return self.task.item.type if self.task is not None else None

    @property
    def state(self) -> str:
        """The state by events."""
        return self.task.item.state if self.task is not None else ""

    @property
    def consumers(self) -> tuple[Node, ...]:
        """Live workers that take from the queue."""
        return tuple(node for node in self.nodes if node.consumes and node.alive)

    @property
    def silent(self) -> tuple[Node, ...]:
        """Workers that took from the queue, are not known to have gone, and are not heard."""
        return tuple(node for node in self.nodes if node.consumes and not node.alive and node.status not in GONE)

    def usual_of(self, type: str | None) -> Usual | None:
        """How long a type runs as a rule, None when no run of it is known; before it slowed down, when it did."""
        if self.slower is not None and type == self.slower.type:
            return Usual(self.slower.before_s, self.slower.before_s, self.slower.usual_s)
        return self.usual.get(type) if type is not None else None

    def pace_of(self, type: str | None) -> Usual | None:
        """How long a type runs these minutes, None when no run of it is known."""
        return (self.pace.get(type) or self.usual.get(type)) if type is not None else None
