"""What events told, in memory: workers and tasks with the attributes of Celery's ``State``.

Small and bounded, for snapshots and scripts. The monitor's fold is another thing: it is right for any order of events,
keeps history, and counts. Source: Celery protocol B.8.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from opsq.wire import states

T = TypeVar("T")
OFFLINE_AFTER_BEATS: Final = 2
MAX_WORKERS: Final = 5_000
MAX_TASKS: Final = 10_000
HEARTBEATS: Final = 4
_STATES: Final = {
    "sent": states.PENDING, "received": states.RECEIVED, "started": states.STARTED, "succeeded": states.SUCCESS,
    "failed": states.FAILURE, "retried": states.RETRY, "rejected": states.REJECTED, "revoked": states.REVOKED,
}  # fmt: skip
#: A late event of a state further right does not take back one further left.
_STRONGEST: Final = (
    *(states.SUCCESS, states.FAILURE, "", states.REVOKED, states.STARTED, states.RECEIVED, states.REJECTED),
    *(states.RETRY, states.PENDING),
)
_FROM_RECEIVED: Final = ("name", "args", "kwargs", "parent_id", "root_id", "retries", "eta", "expires")
_TASK_FIELDS: Final = (
    *_FROM_RECEIVED, "result", "runtime", "exception", "traceback", "exchange", "routing_key", "queue",
    "sent", "received", "started", "succeeded", "failed", "retried", "rejected", "revoked", "timestamp", "clock",
)  # fmt: skip


class Worker:
    """A worker as it told of itself."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.pid: int | None = None
        self.freq: float = 2.0
        self.heartbeats: list[float] = []
        self.active: int | None = None
        self.processed: int | None = None
        self.loadavg: Any = None
        self.sw_ident = self.sw_ver = self.sw_sys = None
        self.clock: int | None = None
        self.offline = False

    @property
    def alive(self) -> bool:
        """Whether its last heartbeat is recent."""
        late = not self.heartbeats or time.time() > self.heartbeats[-1] + self.freq * OFFLINE_AFTER_BEATS
        return not self.offline and not late

    def event(self, kind: str, event: dict[str, Any]) -> None:
        """Take a ``worker-*`` event in."""
        self.offline = kind == "offline"
        if not self.offline:
            self.heartbeats = [*self.heartbeats, float(event.get("local_received") or event["timestamp"])][-HEARTBEATS:]
        for name in ("pid", "freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys", "clock"):
            # A heartbeat that answers a command says another rate than the real one.
            if event.get(name) is not None and not (name == "freq" and "processed" not in event):
                setattr(self, name, event[name])


class Task:
    """A task as events told of it: Celery's attributes, ``None`` where nothing was told."""

    def __init__(self, uuid: str) -> None:
        self.uuid = self.id = uuid
        self.state: str = states.PENDING
        self.worker: Worker | None = None
        self.client: str | None = None
        for name in _TASK_FIELDS:
            setattr(self, name, None)

    @property
    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in states.READY_STATES

    def event(self, kind: str, event: dict[str, Any]) -> None:
        """Take a ``task-*`` event in; a late one does not take a state back."""
        told = _STATES.get(kind, kind.upper())
        known = {name: event[name] for name in _TASK_FIELDS if event.get(name) is not None}
        if kind in _STATES:
            setattr(self, kind, event["timestamp"])
        newer = _rank(told) <= _rank(self.state) or states.RETRY in (told, self.state)
        if newer:
            self.state = told
        elif kind == "received":
            known = {name: value for name, value in known.items() if name in _FROM_RECEIVED}
        else:
            known = {}
        for name, value in known.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """Everything that is known of it."""
        told = {name: getattr(self, name) for name in _TASK_FIELDS}
        return {"uuid": self.uuid, "state": self.state, "worker": self.worker.hostname if self.worker else None, **told}


def _rank(state: str) -> int:
    return _STRONGEST.index(state if state in _STRONGEST else "")


class State:
    """Workers and tasks by what events told. Thread: any, one event at a time.

    callback: called with this and each event. max_workers_in_memory, max_tasks_in_memory: the oldest leave first.
    """

    def __init__(
        self,
        callback: Callable[[State, dict[str, Any]], Any] | None = None,
        max_workers_in_memory: int = MAX_WORKERS,
        max_tasks_in_memory: int = MAX_TASKS,
        **_: Any,
    ) -> None:
        self.event_callback = callback
        self.workers: OrderedDict[str, Worker] = OrderedDict()
        self.tasks: OrderedDict[str, Task] = OrderedDict()
        self.event_count = self.task_count = 0
        self._limits = max_workers_in_memory, max_tasks_in_memory
        self._lock = threading.RLock()

    def event(self, event: dict[str, Any]) -> None:
        """Take an event in, as a receiver's handler gets it."""
        group, _, kind = str(event.get("type")).partition("-")
        with self._lock:
            self.event_count += 1
            if group == "worker":
                self._worker(event["hostname"]).event(kind, event)
            elif group == "task" and isinstance(event.get("uuid"), str):
                self._task(kind, event)
        if self.event_callback is not None:
            self.event_callback(self, event)

    def _worker(self, name: str) -> Worker:
        found = self.workers.pop(name, None) or Worker(name)
        return _newest(self.workers, name, found, self._limits[0])

    def _task(self, kind: str, event: dict[str, Any]) -> None:
        known = self.tasks.pop(event["uuid"], None)
        self.task_count += known is None
        task = _newest(self.tasks, event["uuid"], known or Task(event["uuid"]), self._limits[1])
        task.event(kind, event)
        if kind == "sent":
            task.client = event["hostname"]
        else:
            task.worker = self._worker(event["hostname"])

    def alive_workers(self) -> list[Worker]:
        """The workers whose heartbeats are recent."""
        with self._lock:
            return [worker for worker in self.workers.values() if worker.alive]

    def tasks_by_time(self, limit: int | None = None) -> Iterator[tuple[str, Task]]:
        """(id, task), heard of last first."""
        with self._lock:
            found = list(reversed(self.tasks.items()))
        return iter(found[:limit])

    tasks_by_timestamp = tasks_by_time

    def tasks_by_type(self, name: str, limit: int | None = None) -> list[tuple[str, Task]]:
        """(id, task) of one task type, heard of last first."""
        return [pair for pair in self.tasks_by_time() if getattr(pair[1], "name", None) == name][:limit]

    def tasks_by_worker(self, hostname: str, limit: int | None = None) -> list[tuple[str, Task]]:
        """(id, task) of one worker, heard of last first."""
        found = [pair for pair in self.tasks_by_time() if pair[1].worker and pair[1].worker.hostname == hostname]
        return found[:limit]

    def task_types(self) -> list[str]:
        """The names of tasks, sorted."""
        names = {getattr(task, "name", None) for _, task in self.tasks_by_time()}
        return sorted(str(name) for name in names if name)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.workers.clear()
            self.tasks.clear()
            self.event_count = self.task_count = 0


def _newest(items: OrderedDict[str, T], key: str, value: T, limit: int) -> T:
    items[key] = value
    while len(items) > limit:
        items.popitem(last=False)
    return value
