"""The schedule as the monitor's pages show it, read from where the beats keep it, else asked of the one that leads.

A beat on another machine may keep its schedule in a file there; then only it can tell. Asking takes as long as no
beat answers, so pages get what was read last, and reading goes on behind them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from opsq.control.schedules import NoBeat, ask
from opsq.core.schedules.state import Book, Line, next_ticks, read_book
from opsq.core.schedules.store import ScheduleStore, open_store
from opsq.errors import OpsqError
from opsq.settings import Settings
from opsq.web.hands import Scheduled, Ticked, Timetable

REFRESH_S: Final = 1.0
FIRST_S: Final = 1.5
ASK_S: Final = 1.5
UPCOMING: Final = 12


class Timetables:
    """Reads the schedule of one broker. Thread: any. control: of the monitor's app, made at the first use."""

    def __init__(self, settings: Settings, control: Callable[[], Any]) -> None:
        self._settings = settings
        self._control = control
        self._lock = threading.Lock()
        self._store: ScheduleStore | None = None
        self._known: Timetable | None = None
        self._read_at = float("-inf")
        self._reader: threading.Thread | None = None

    def now(self) -> Timetable:
        """What was read last, which is being read again if that is a while ago; the first call waits for it."""
        with self._lock:
            due = time.monotonic() - self._read_at > REFRESH_S
            if due and (self._reader is None or not self._reader.is_alive()):
                self._reader = threading.Thread(target=self._refresh, name="opsq-timetable", daemon=True)
                self._reader.start()
            reader, known = self._reader, self._known
        if known is None and reader is not None:
            reader.join(FIRST_S)
        with self._lock:
            return self._known or Timetable(at=0.0, note="it is being asked for")

    def change(self, command: str, arguments: Mapping[str, Any]) -> str:
        """Have the leading beat change it; returns its answer. Raises: OpsqError."""
        answer = ask(self._control(), command, arguments)
        with self._lock:
            self._read_at = float("-inf")
        self._refresh()
        return str(answer.get("ok", "done"))

    def close(self) -> None:
        """Let go of the store. Harmless twice."""
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            store.close()

    def _refresh(self) -> None:
        found = self._read()
        with self._lock:
            self._known, self._read_at = found, time.monotonic()

    def _read(self) -> Timetable:
        note = ""
        try:
            kept = read_book(self._opened())
            if kept.lines:
                return timetable(kept)
        except OpsqError as error:
            note = str(error)
        try:
            told = ask(self._control(), "schedule_list", {}, ASK_S)
            return timetable(msgspec.convert(told, Book))
        except NoBeat:
            return Timetable(at=time.time(), note=note)
        except (OpsqError, msgspec.ValidationError) as error:
            return Timetable(at=time.time(), note=note or str(error))

    def _opened(self) -> ScheduleStore:
        with self._lock:
            if self._store is None:
                self._store = open_store(self._settings)
            return self._store


def timetable(book: Book) -> Timetable:
    """A schedule as the pages know it."""
    leader = book.leader
    return Timetable(
        at=time.time(),
        leader=leader.holder if leader is not None else None,
        lease_s=leader.left_s if leader is not None else None,
        entries=tuple(map(_scheduled, book.lines)),
    )


def _scheduled(line: Line) -> Scheduled:
    about, state = line.about, line.state
    return Scheduled(
        name=line.name, task=about.task, schedule=about.schedule, timezone=about.timezone, args=about.args,
        kwargs=about.kwargs, options=about.options, catch_up=about.catch_up, jitter_s=about.jitter_s,
        deadline_s=about.deadline_s, source=about.source, paused=line.paused,
        upcoming=() if line.paused else tuple(next_ticks(about, state.anchor, UPCOMING)),
        total=state.total, missed=state.missed, repeated=state.repeated, late_max_s=state.late_max_s,
        error=state.error,
        recent=tuple(Ticked(id=run.id, due_at=run.due_at, sent_at=run.sent_at, late_s=run.late_s, asked=run.asked)
                     for run in state.recent),
    )  # fmt: skip
