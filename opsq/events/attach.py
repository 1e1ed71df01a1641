"""Attach to a fleet that knows nothing of the monitor: have its events sent, and catch up on what it does already.

On every connection to the broker all workers are asked for a heartbeat, so that they are known at once. Each worker
that appears, or starts again, is told to send task events (a Celery worker started without ``-E`` sends none) and asked
what it runs, holds and consumes. Its answers become events of the same kinds as if they had been heard, but only for
tasks of which nothing as late is known, so that catching up adds no second start to a task whose start was seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from opsq.chore import Chore
from opsq.clock import Clock, SystemClock
from opsq.control.mailer import Call
from opsq.errors import BrokerUnavailable
from opsq.events.catch_up import Known, facts_of, tasks_of
from opsq.events.workers import OFFLINE, WorkerRecord, liveness
from opsq.wire.control import Reply
from opsq.wire.event import Event, Malformed

log = logging.getLogger(__name__)

EVERY_S: Final = 0.5
ANSWER_S: Final = 2.0
#: A Celery worker forgets the order when it connects anew, and says nothing of it when its broker was only slow.
AGAIN_S: Final = 30.0
#: Before answers are compared with what was heard: events that are on their way come first.
SETTLES_S: Final = 0.5
#: Tasks received after which "nobody announces what is published" is no coincidence.
ENOUGH_RECEIVED: Final = 20
MOST_AT_ONCE: Final = 50
OUR_SOFTWARE: Final = "opsq"


class Steering(Protocol):
    """What sends commands: ``opsq.control.mailer.Mailer``."""

    def tell(self, call: Call) -> None:
        """Send and wait for nobody. Raises BrokerUnavailable."""
        ...

    def ask(self, call: Call) -> list[Reply]:
        """Send and collect replies. Raises BrokerUnavailable."""
        ...


class Hint(msgspec.Struct, frozen=True):
    """Something that keeps the monitor from showing all it could, and what to do: which setting, to which value."""

    what: str
    setting: str
    value: str
    where: str


class AttachStatus(msgspec.Struct, frozen=True):
    """enabled: workers told to send task events; caught_up: tasks learnt by asking; hints: what is missing still."""

    enabled: tuple[str, ...] = ()
    caught_up: int = 0
    hints: tuple[Hint, ...] = ()


SENT_IS_OFF: Final = Hint(
    "clients do not announce what they publish, so waiting times and queues of tasks begin at the worker",
    "task_send_sent_event",
    "True",
    "in the app of the programs that publish tasks",
)
TASKS_ARE_SILENT: Final = Hint(
    "workers announce no tasks, and the monitor was told not to switch that on",
    "worker_send_task_events",
    "True",
    "in the app of the workers, or start them with -E, or the monitor with --enable-events",
)


class Attacher:
    """Keeps a fleet talking. Thread: one of its own; ``start``, ``stop`` and ``status`` from any.

    insert: puts events into the stream. enable: whether workers are told to send task events.
    """

    def __init__(
        self,
        steering: Steering,
        insert: Callable[[Sequence[Event | Malformed]], None],
        sight: Sight,
        *,
        enable: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self._steering = steering
        self._insert = insert
        self._sight = sight
        self._enable = enable
        self._clock = clock or SystemClock()
        self._chore = Chore("opsq-attach", self._round, every_s=EVERY_S, failing="workers cannot be asked now")
        self._connection: int | None = None
        self._attached: dict[str, str | None] = {}
        self._again_at = 0.0
        self._enabled: dict[str, None] = {}
        self._caught_up = 0
        self._advised: set[Hint] = set()

    @property
    def status(self) -> AttachStatus:
        """How it goes. Thread: any."""
        return AttachStatus(tuple(self._enabled.copy()), self._caught_up, self._hints())

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        self._chore.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop; false when it still waits for an answer. May be called twice, or unstarted."""
        return self._chore.stop(timeout_s)

    def _round(self) -> None:
        try:
            self.step()
        except BrokerUnavailable:
            self._connection = None
            raise

    def step(self) -> None:
        """Do what is due. Thread: its own, or a test that has not started it."""
        connection = self._sight.connection()
        if connection is None:
            return
        if connection != self._connection:
            self._tell("heartbeat")
            self._attached.clear()
            self._connection = connection
        now = self._clock.monotonic()
        if self._enable and now >= self._again_at:
            self._again_at = now + AGAIN_S
            self._tell("enable_events")
        fresh = self._fresh()
        for start in range(0, len(fresh), MOST_AT_ONCE):
            self._attach(fresh[start : start + MOST_AT_ONCE])
        self._advise()

    def _fresh(self) -> list[WorkerRecord]:
        """Workers that appeared or started again since they were attached to."""
        wall = self._clock.now()
        alive = [record for record in self._sight.workers() if liveness(record, wall) != OFFLINE]
        fresh = [record for record in alive if self._attached.get(record.name, "") != record.incarnation]
        self._attached = {record.name: record.incarnation for record in alive}
        return fresh

    def _attach(self, fresh: list[WorkerRecord]) -> None:
        names = tuple(record.name for record in fresh)
        if self._enable:
            for node, answer in self._ask("enable_events", names).items():
                if isinstance(answer, dict) and "ok" in answer:
                    self._enabled[node] = None
        running, held = self._ask("active", names, safe=True), self._ask("reserved", names)
        waiting = self._ask("scheduled", names)
        strangers = tuple(record.name for record in fresh if record.said.get("sw_ident") != OUR_SOFTWARE)
        queues = self._ask("active_queues", strangers) if strangers else {}
        stats = self._ask("stats", strangers) if strangers else {}
        if self._chore.pause(SETTLES_S):
            return
        now = self._clock.now()
        events = [facts_of(node, stats.get(node), queues.get(node), now) for node in strangers]
        tasks = [event for node in names for event in tasks_of(node, _lists(node, running, held, waiting), now)]
        missed = [event for event in tasks if self._sight.lacks(event)]
        self._caught_up += len({event.uuid for event in missed})
        self._insert([*(event for event in events if event is not None), *missed])

    def _advise(self) -> None:
        """Log each hint when it first holds."""
        for hint in self._hints():
            if hint not in self._advised:
                self._advised.add(hint)
                log.warning("%s: set %s = %s %s", hint.what, hint.setting, hint.value, hint.where)

    def _tell(self, command: str) -> None:
        self._steering.tell(Call(command=command))

    def _ask(self, command: str, names: tuple[str, ...], **arguments: Any) -> dict[str, Any]:
        if self._chore.stopping:
            return {}
        call = Call(command=command, arguments=arguments, destination=names, timeout_s=ANSWER_S)
        return {reply.hostname: reply.value for reply in self._steering.ask(call)}

    def _hints(self) -> tuple[Hint, ...]:
        kinds = self._sight.kinds()
        received = kinds.get("task-received", 0)
        found = []
        if received >= ENOUGH_RECEIVED and not kinds.get("task-sent", 0):
            found.append(SENT_IS_OFF)
        if not self._enable and not received and self._sight.workers():
            found.append(TASKS_ARE_SILENT)
        return tuple(found)


class Sight(Protocol):
    """What the monitor knows, as far as attaching asks. Thread: any."""

    def connection(self) -> int | None:
        """A number that changes with every new connection to the broker; ``None`` without one."""
        ...

    def workers(self) -> Sequence[WorkerRecord]:
        """The workers."""
        ...

    def kinds(self) -> Mapping[str, int]:
        """How many events of each kind have come."""
        ...

    def lacks(self, event: Event) -> bool:
        """Whether nothing as late as this event is known of its task."""
        ...


def _lists(node: str, *answers: Mapping[str, Any]) -> Known:
    told = [found if isinstance(found := answer.get(node), list) else [] for answer in answers]
    return Known(*told)
