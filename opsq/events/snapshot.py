"""The cluster as its events of the last while show it, in memory, and cameras that look at it at intervals.

For ``opsq events --camera``, ``opsq top`` and Celery users' own cameras: the names are Celery's (``state.tasks``,
``state.workers``, ``tasks_by_time`` …). What lasts, and what a page shows, is the monitor's history instead.
Source: Celery's ``celery.events.snapshot`` and ``celery.events.state``.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from opsq.events import evidence
from opsq.events.evidence import Evidence
from opsq.wire.event import Event

TASKS_MAX: Final = 10_000
WORKERS_MAX: Final = 5_000
DEFAULT_FREQ_S: Final = 2.0
#: Heartbeats that may be missing before a worker counts as gone, and the shortest such silence.
BEATS: Final = 3.0
SILENCE_S: Final = 6.0
_TIMES: Final = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected")


class Task:
    """One task. Its facts are attributes: ``name``, ``args``, ``kwargs``, ``result``, ``exception``, ``runtime`` …,
    none for what no event has told; ``sent``, ``received``, ``started`` … are epoch seconds.
    """

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.hostname: str | None = None
        self.timestamp = 0.0
        self._evidence = Evidence()
        self._facts: dict[str, Any] = {}

    def event(self, event: Event) -> None:
        """Take an event in, in any order."""
        self._evidence = evidence.join(self._evidence, event)
        kind = event.kind.removeprefix("task-")
        if event.timestamp >= self.timestamp:
            self.timestamp = event.timestamp
            self._facts.update({key: value for key, value in event.fields.items() if value is not None})
        else:
            self._facts = {**{key: value for key, value in event.fields.items() if value is not None}, **self._facts}
        self._facts[kind] = event.timestamp
        if kind != "sent":
            self.hostname = event.hostname

    @property
    def state(self) -> str:
        """The state, whatever the order in which its events came."""
        return evidence.state(self._evidence)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._facts.get(name)

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state}>"


class Worker:
    """One worker. What its last heartbeat said are attributes: ``active``, ``processed``, ``loadavg``, ``slots`` …"""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.timestamp = 0.0
        self.seen_at = 0.0
        self._offline = False
        self._facts: dict[str, Any] = {}

    def event(self, event: Event, now: float) -> None:
        """Take an event in. now: monotonic seconds."""
        self.seen_at = now
        if event.kind.startswith("worker-") and event.timestamp >= self.timestamp:
            self.timestamp = event.timestamp
            self._offline = event.kind == "worker-offline"
            self._facts.update({key: value for key, value in event.fields.items() if value is not None})

    @property
    def alive(self) -> bool:
        """Whether it was heard lately and has not said goodbye."""
        freq = self._facts.get("freq")
        every_s = float(freq) if isinstance(freq, (int, float)) and freq > 0 else DEFAULT_FREQ_S
        return not self._offline and time.monotonic() - self.seen_at <= max(SILENCE_S, BEATS * every_s)

    @property
    def status_string(self) -> str:
        """``ONLINE`` or ``OFFLINE``."""
        return "ONLINE" if self.alive else "OFFLINE"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._facts.get(name)

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string})>"


class State:
    """All of it, bounded: the tasks heard of longest ago go first. Thread: one at a time."""

    def __init__(self, tasks_max: int = TASKS_MAX, workers_max: int = WORKERS_MAX) -> None:
        self.event_count = 0
        self.task_count = 0
        self.tasks: OrderedDict[str, Task] = OrderedDict()
        self.workers: OrderedDict[str, Worker] = OrderedDict()
        self._tasks_max = tasks_max
        self._workers_max = workers_max

    def event(self, event: Event) -> None:
        """Take an event in."""
        self.event_count += 1
        now = time.monotonic()
        if event.kind.startswith("worker-") or event.hostname in self.workers:
            worker = self.workers.get(event.hostname) or self.workers.setdefault(event.hostname, Worker(event.hostname))
            worker.event(event, now)
            self.workers.move_to_end(event.hostname)
            while len(self.workers) > self._workers_max:
                self.workers.popitem(last=False)
        if event.kind.startswith("task-") and event.uuid:
            task = self.tasks.get(event.uuid)
            if task is None:
                task = self.tasks[event.uuid] = Task(event.uuid)
                self.task_count += 1
            task.event(event)
            self.tasks.move_to_end(event.uuid)
            while len(self.tasks) > self._tasks_max:
                self.tasks.popitem(last=False)

    def tasks_by_time(self, limit: int | None = None, reverse: bool = True) -> Iterator[tuple[str, Task]]:
        """Tasks with their ids, the latest first."""
        items = list(self.tasks.items())
        ordered = items[::-1] if reverse else items
        return iter(ordered[:limit])

    tasks_by_timestamp = tasks_by_time

    def tasks_by_type(self, name: str, limit: int | None = None) -> Iterator[tuple[str, Task]]:
        """Tasks of one type, the latest first."""
        return iter([each for each in self.tasks_by_time() if each[1].name == name][:limit])

    def tasks_by_worker(self, hostname: str, limit: int | None = None) -> Iterator[tuple[str, Task]]:
        """Tasks that a worker has taken, the latest first."""
        return iter([each for each in self.tasks_by_time() if each[1].hostname == hostname][:limit])

    def task_types(self) -> list[str]:
        """Names of the task types heard of."""
        return sorted({str(each.name) for each in self.tasks.values() if each.name})

    def alive_workers(self) -> Iterator[Worker]:
        """Workers that live."""
        return (each for each in list(self.workers.values()) if each.alive)

    def clear_tasks(self, ready: bool = True) -> None:
        """Forget tasks: those that have ended, or all. ready: whether also those that have ended."""
        if ready:
            self.tasks.clear()
            return
        ended = ("SUCCESS", "FAILURE", "REVOKED", "REJECTED")
        self.tasks = OrderedDict((uuid, task) for uuid, task in self.tasks.items() if task.state in ended)

    def clear(self, ready: bool = True) -> None:
        """Forget tasks and workers, and begin to count anew."""
        self.clear_tasks(ready)
        self.workers.clear()
        self.event_count = self.task_count = 0


class Polaroid:
    """A camera: subclass it and write ``on_shutter(state)``, called every ``freq`` seconds when events have come.

    maxrate: most pictures per second, or ``"10/m"``; the rest are left out. clear_after: forget everything after
    each picture. Thread: the one that calls ``tick``.
    """

    clear_after: ClassVar[bool] = False
    cleanup_signal: ClassVar[Any] = None
    shutter_signal: ClassVar[Any] = None

    def __init__(
        self,
        state: State,
        freq: float = 1.0,
        maxrate: float | str | None = None,
        cleanup_freq: float = 3600.0,
        timer: Any = None,
        app: Any = None,
    ) -> None:
        self.state = state
        self.app = app
        self.freq = freq
        self.cleanup_freq = cleanup_freq
        self.pictures = 0
        self._between_s = _between_s(maxrate)
        self._next_at = time.monotonic() + freq
        self._clean_at = time.monotonic() + cleanup_freq
        self._taken_at = float("-inf")
        self._lock = threading.Lock()

    def on_shutter(self, state: State) -> None:
        """Look at ``state``; for you to write."""

    def on_cleanup(self) -> None:
        """Throw away what is old, every ``cleanup_freq`` seconds; for you to write."""

    def install(self) -> None:
        """Nothing to do; Celery's cameras set their timers here."""

    def tick(self) -> float:
        """Take a picture if it is time; seconds until the next."""
        now = time.monotonic()
        if now >= self._clean_at:
            self._clean_at = now + self.cleanup_freq
            self.on_cleanup()
        if now >= self._next_at:
            self._next_at = now + self.freq
            if now - self._taken_at >= self._between_s:
                self._taken_at = now
                self.capture()
        return max(0.0, min(self._next_at, self._clean_at) - now)

    def capture(self) -> None:
        """Take a picture now, unless nothing was heard since the last."""
        with self._lock:
            if self.state.event_count:
                self.on_shutter(self.state)
                self.pictures += 1
            if self.clear_after:
                self.state.clear()

    def cancel(self) -> None:
        """Take no more pictures."""
        self._next_at = self._clean_at = float("inf")

    def __enter__(self) -> Polaroid:
        self.install()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()


def _between_s(maxrate: float | str | None) -> float:
    """Seconds between two pictures at this rate. Raises: ValueError."""
    if not maxrate:
        return 0.0
    number, _, unit = str(maxrate).partition("/")
    return {"s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}[unit.strip()] / float(number)
