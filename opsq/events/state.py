"""The cluster as the events of the last while show it, in memory, under Celery's names.

For ``app.events.State``, ``opsq events --camera``, ``opsq top`` and cameras of one's own. What lasts, and what a page
shows, is the monitor's history instead. Source: Celery's ``celery.events.state``; Celery protocol B.8.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from opsq.events import evidence
from opsq.events.evidence import Evidence
from opsq.wire.event import Event, Malformed, event_from_wire
from opsq.wire.states import READY_STATES

T = TypeVar("T")
TASKS_MAX: Final = 10_000
WORKERS_MAX: Final = 5_000
DEFAULT_FREQ_S: Final = 2.0
#: Heartbeats that may be missing before a worker counts as gone, and the shortest such silence.
BEATS: Final = 3.0
SILENCE_S: Final = 6.0
INFO_FIELDS: Final = (
    "args", "kwargs", "retries", "result", "eta", "runtime", "expires", "exception", "exchange", "routing_key",
    "root_id", "parent_id",
)  # fmt: skip


class _Told:
    """Its facts are attributes, none for what no event has told."""

    def __init__(self) -> None:
        self.timestamp = 0.0
        self._facts: dict[str, Any] = {}

    def _learn(self, facts: Mapping[str, Any], at: float) -> None:
        """Take facts in; those of a late event only where nothing newer is known."""
        known = {key: value for key, value in facts.items() if value is not None}
        late = at < self.timestamp
        self._facts = {**known, **self._facts} if late else {**self._facts, **known}
        self.timestamp = max(self.timestamp, at)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._facts.get(name)


class Worker(_Told):
    """One worker. What its last heartbeat said are attributes: ``active``, ``processed``, ``loadavg``, ``slots`` …"""

    def __init__(self, hostname: str) -> None:
        super().__init__()
        self.hostname = hostname
        self.freq = DEFAULT_FREQ_S
        self.heard_at = 0.0
        self._offline = False

    def event(self, event: Event, heard_at: float) -> None:
        """Take an event in. heard_at: epoch seconds of this machine."""
        self.heard_at = max(self.heard_at, heard_at)
        if not event.kind.startswith("worker-"):
            return
        if event.timestamp >= self.timestamp:
            self._offline = event.kind == "worker-offline"
        self._learn({"pid": event.pid, "clock": event.clock, **event.fields}, event.timestamp)
        # A heartbeat that answers a command says another rate than the real one.
        freq = event.fields.get("freq")
        if isinstance(freq, (int, float)) and freq > 0 and "processed" in event.fields:
            self.freq = float(freq)

    @property
    def alive(self) -> bool:
        """Whether it was heard lately and has not said goodbye."""
        return not self._offline and time.time() - self.heard_at <= max(SILENCE_S, BEATS * self.freq)

    @property
    def status_string(self) -> str:
        """``ONLINE`` or ``OFFLINE``."""
        return "ONLINE" if self.alive else "OFFLINE"

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string})>"


class Task(_Told):
    """One task: ``name``, ``args``, ``result``, ``exception``, ``runtime`` … are attributes; ``sent``, ``received``,
    ``started`` … are epoch seconds.

    worker: the one that has it, by the latest event. client: node name of who published it.
    """

    def __init__(self, uuid: str) -> None:
        super().__init__()
        self.uuid = self.id = uuid
        self.worker: Worker | None = None
        self.client: str | None = None
        self._evidence = Evidence()

    def event(self, event: Event) -> None:
        """Take an event in, in any order."""
        self._evidence = evidence.join(self._evidence, event)
        kind = event.kind.removeprefix("task-")
        self._learn({"clock": event.clock, **event.fields, kind: event.timestamp}, event.timestamp)

    @property
    def state(self) -> str:
        """The state, whatever the order in which its events came."""
        return evidence.state(self._evidence)

    @property
    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in READY_STATES

    @property
    def hostname(self) -> str | None:
        """Node name of the worker that has it."""
        return self.worker.hostname if self.worker is not None else None

    def info(self, fields: tuple[str, ...] | None = None, extra: tuple[str, ...] = ()) -> dict[str, Any]:
        """What is known of these facts, by default arguments, result, times and where it went."""
        names = (*(INFO_FIELDS if fields is None else fields), *extra)
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """Everything that is known of it."""
        return {**self._facts, "uuid": self.uuid, "state": self.state, "worker": self.hostname, "client": self.client}

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state}>"


class State:
    """All of it, bounded: what was heard of longest ago goes first. Thread: any, one event at a time.

    callback: called with this and each event.
    """

    def __init__(
        self,
        callback: Callable[[State, Any], Any] | None = None,
        max_workers_in_memory: int = WORKERS_MAX,
        max_tasks_in_memory: int = TASKS_MAX,
        **_: Any,
    ) -> None:
        self.event_callback = callback
        self.event_count = self.task_count = 0
        self.tasks: OrderedDict[str, Task] = OrderedDict()
        self.workers: OrderedDict[str, Worker] = OrderedDict()
        self._workers_max, self._tasks_max = max_workers_in_memory, max_tasks_in_memory
        self._lock = threading.RLock()

    def event(self, event: Event | Mapping[str, Any]) -> None:
        """Take an event in, as a stream or as a receiver's handler gets it; what is none changes nothing."""
        read = event if isinstance(event, Event) else event_from_wire(event)
        if isinstance(read, Malformed):
            return
        # As the receiver says it: an event that is played back later is not news of its worker.
        heard_at = time.time() if read is event else float(read.fields.get("local_received") or read.timestamp)
        with self._lock:
            self.event_count += 1
            if read.group == "worker":
                self._worker(read.hostname).event(read, heard_at)
            elif read.group == "task" and read.uuid:
                self._task(read.uuid, read, heard_at)
        if self.event_callback is not None:
            self.event_callback(self, event)

    def _worker(self, name: str) -> Worker:
        return _newest(self.workers, name, self.workers.get(name) or Worker(name), self._workers_max)

    def _task(self, uuid: str, event: Event, heard_at: float) -> None:
        known = self.tasks.get(uuid)
        self.task_count += known is None
        task = _newest(self.tasks, uuid, known or Task(uuid), self._tasks_max)
        if event.kind == "task-sent":
            task.client = event.hostname
        else:
            worker = self._worker(event.hostname)
            worker.event(event, heard_at)
            if task.worker is None or event.timestamp >= task.timestamp:
                task.worker = worker
        task.event(event)

    def tasks_by_time(self, limit: int | None = None, reverse: bool = True) -> Iterator[tuple[str, Task]]:
        """Tasks with their ids, the latest first."""
        with self._lock:
            items = list(self.tasks.items())
        return iter((items[::-1] if reverse else items)[:limit])

    tasks_by_timestamp = tasks_by_time

    def tasks_by_type(self, name: str, limit: int | None = None) -> Iterator[tuple[str, Task]]:
        """Tasks of one type, the latest first."""
        return iter([each for each in self.tasks_by_time() if each[1].name == name][:limit])

    def tasks_by_worker(self, hostname: str, limit: int | None = None) -> Iterator[tuple[str, Task]]:
        """Tasks that a worker has taken, the latest first."""
        return iter([each for each in self.tasks_by_time() if each[1].hostname == hostname][:limit])

    def task_types(self) -> list[str]:
        """Names of the task types heard of."""
        return sorted({str(task.name) for _, task in self.tasks_by_time() if task.name})

    def alive_workers(self) -> Iterator[Worker]:
        """Workers that live."""
        with self._lock:
            return iter([each for each in self.workers.values() if each.alive])

    def clear_tasks(self, ready: bool = True) -> None:
        """Forget the tasks that have ended; all of them unless ``ready``."""
        with self._lock:
            under_way = [(uuid, task) for uuid, task in self.tasks.items() if ready and not task.ready]
            self.tasks = OrderedDict(under_way)

    def clear(self, ready: bool = True) -> None:
        """Forget workers and tasks, as ``clear_tasks`` does, and begin to count anew."""
        with self._lock:
            self.clear_tasks(ready)
            self.workers.clear()
            self.event_count = self.task_count = 0


def _newest(items: OrderedDict[str, T], key: str, value: T, limit: int) -> T:
    """Put ``value`` last; the first ones go where there are too many."""
    items[key] = value
    items.move_to_end(key)
    while len(items) > limit:
        items.popitem(last=False)
    return value
