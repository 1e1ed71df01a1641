"""What a running task says: its progress, its own events, its log lines, as events of the worker it runs in.

Each process that runs tasks has one voice over one emitter: in-process pools share the worker's, a child process has
its own, which connects when there is first something to say. Log lines are collected and go out several in an event;
of each run only so many are taken, and the event says when there were more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from opsq import logs
from opsq.clock import Clock

PROGRESS_EVERY_S: Final = 0.1
LONGEST_LINE: Final = 1_000
#: Of one event's lines: what a row of the history keeps of an event is bounded.
EVENT_CHARS: Final = 3_000
MOST_RUNS: Final = 10_000

Emit = Callable[[str, dict[str, Any]], None]
RunKey = tuple[str, int]


class _Run(msgspec.Struct):
    """The log of one run so far. count: lines taken; left_out: lines beyond the bound."""

    name: str
    count: int = 0
    left_out: int = 0
    chars: int = 0
    lines: list[tuple[float, str, str, str]] = []


class Voice:
    """Turns what tasks say into events. Thread: any.

    emit: takes an event. wake: has ``heard`` called soon. lines_max: log lines of one run; 0 takes none.
    """

    def __init__(
        self, emit: Emit, wake: Callable[[], None], lines_max: int, clock: Clock, level: int = logging.INFO
    ) -> None:
        self._emit = emit
        self._wake = wake
        self.on_stop: Callable[[], None] | None = None
        self._lines_max = lines_max
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: dict[RunKey, _Run] = {}
        self._progress_at: dict[str, float] = {}
        self.handler = _Handler(self, level)

    def start(self) -> None:
        """Listen to what tasks log."""
        if self._lines_max > 0:
            logging.getLogger().addHandler(self.handler)

    def stop(self) -> None:
        """Listen no more, and say what was heard. May be called twice, or unstarted."""
        logging.getLogger().removeHandler(self.handler)
        for key in list(self._runs):
            self.finished(*key)
        if self.on_stop is not None:
            self.on_stop()

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Say an event of the task's own; ``fields`` names the task as ``uuid``."""
        self._emit(kind, {"timestamp": self._clock.now(), **fields})

    def progress(self, task_id: str, fields: Mapping[str, Any], *, last: bool = False) -> None:
        """Say how far a task is; not more often than every 0.1 s, but for the last time."""
        now = self._clock.monotonic()
        if not last and now - self._progress_at.get(task_id, -PROGRESS_EVERY_S) < PROGRESS_EVERY_S:
            return
        if len(self._progress_at) >= MOST_RUNS:
            self._progress_at.clear()
        self._progress_at[task_id] = now
        self.event("task-progress", {"uuid": task_id, **fields})

    def line(self, record: logging.LogRecord, bound: Mapping[str, Any]) -> None:
        """Take a log line of the run that is ``bound`` in the log's context."""
        key = (str(bound["task_id"]), int(bound.get("attempt") or 1))
        with self._lock:
            run = self._runs.get(key)
            if run is None:
                if len(self._runs) >= MOST_RUNS:
                    # What a run leaves running may log after its end; nobody would ever end those again.
                    self._runs.pop(next(iter(self._runs)))
                run = self._runs[key] = _Run(str(bound.get("task") or ""))
            if run.count >= self._lines_max:
                run.left_out += 1
                return
            text = record.getMessage()[:LONGEST_LINE]
            run.count += 1
            run.chars += len(text) + len(record.name) + 40
            run.lines.append((record.created, record.levelname, record.name, text))
            full = run.chars >= EVENT_CHARS - LONGEST_LINE
        if full:
            self._say(key)
        else:
            self._wake()

    def heard(self) -> None:
        """Say the lines that wait. Thread: any, called every now and then."""
        for key in list(self._runs):
            self._say(key)

    def finished(self, task_id: str, attempt: int) -> None:
        """Say what a run that has ended has left to say, and forget it."""
        key = (task_id, attempt)
        self._progress_at.pop(task_id, None)
        if key in self._runs:
            self._say(key, last=True)
            with self._lock:
                self._runs.pop(key, None)

    def _say(self, key: RunKey, *, last: bool = False) -> None:
        with self._lock:
            run = self._runs.get(key)
            if run is None or not (run.lines or (last and run.left_out)):
                return
            lines, run.lines, run.chars = run.lines, [], 0
            first = run.count - len(lines) + 1
        fields = {
            "uuid": key[0], "timestamp": self._clock.now(), "attempt": key[1], "first": first,
            "lines": [list(line) for line in lines], "left_out": run.left_out,
        }  # fmt: skip
        self._emit("task-log", fields)


class _Handler(logging.Handler):
    """Hands the lines that tasks log to a voice; what opsq itself says of a task is in its events already."""

    def __init__(self, voice: Voice, level: int) -> None:
        super().__init__(level)
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line. Raises: nothing."""
        if record.name.startswith("opsq."):
            return
        bound = logs.bound()
        if "task_id" not in bound:
            return
        try:
            self._voice.line(record, bound)
        except Exception:  # noqa: BLE001  # boundary: a line whose arguments do not fit its text must not fail the task
            self.handleError(record)
