"""What ``opsq top`` shows: three tables drawn from the state of the cluster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from opsq.events.state import State, Task, Worker
from opsq.wire.event import Event

PANES: Final = ("workers", "tasks", "queues")
KEYS: Final[Mapping[str, str]] = {
    "workers": "+/- slots",
    "tasks": "r revoke  k kill  l rate limit",
    "queues": "p pause or resume",
}
ROWS_WITHOUT_A_SCREEN: Final = 20
RATE_S: Final = 10.0
_STYLES: Final[Mapping[str, str]] = {
    "SUCCESS": "green",
    "FAILURE": "red",
    "RETRY": "yellow",
    "REVOKED": "bright_black",
    "STARTED": "blue",
    "ONLINE": "green",
    "OFFLINE": "red",
}


class View:
    """What is known and what is chosen. Thread: the main one; ``running`` and ``told_queues`` are set before.

    running: tasks that ran before we came, by worker. pane, cursor: what is chosen. asking: a question being
    answered, with what it is about; answer: as far as typed.
    """

    def __init__(self, state: State, default_queue: str) -> None:
        self.state = state
        self.default_queue = default_queue
        self.running: dict[str, list[dict[str, Any]]] = {}
        self.told_queues: set[str] = set()
        self.interactive = False
        self.pane = PANES[0]
        self.cursor = 0
        self.asking: tuple[str, str] | None = None
        self.answer = ""
        self._ended: deque[float] = deque(maxlen=100_000)

    def event(self, event: Event) -> None:
        """Take an event in."""
        self.state.event(event)
        if event.kind in ("task-succeeded", "task-failed"):
            self._ended.append(time.monotonic())

    def per_second(self) -> float:
        """Tasks that ended, by the second, over the last ten."""
        since = time.monotonic() - RATE_S
        return sum(1 for at in self._ended if at >= since) / RATE_S

    def workers(self) -> list[Worker]:
        """By name."""
        return sorted(self.state.workers.values(), key=lambda each: each.hostname)

    def tasks(self) -> list[Task | dict[str, Any]]:
        """Those that run, which we may only have been told of, and then the latest."""
        seen = [task for _, task in self.state.tasks_by_time(500)]
        known = {task.uuid for task in seen}
        told = [each for rows in self.running.values() for each in rows if each.get("id") not in known]
        running = [task for task in seen if task.state == "STARTED"]
        others = [task for task in seen if task.state != "STARTED"]
        return [*running, *told, *others]

    def name_of(self, task_id: str) -> str:
        """The task type of a task."""
        return next((row["name"] for row in map(task_row, self.tasks()) if row["id"] == task_id), "")

    def paused_of(self, worker: Worker) -> set[str]:
        """Queues that a worker says are paused."""
        return {str(each).removeprefix("queue ") for each in worker.paused or () if str(each).startswith("queue ")}


def worker_row(worker: Worker) -> dict[str, Any]:
    """A worker in a few facts."""
    return {
        "worker": worker.hostname,
        "status": worker.status_string,
        "active": worker.active,
        "slots": worker.slots,
        "processed": worker.processed,
        "load": worker.loadavg[0] if isinstance(worker.loadavg, (list, tuple)) and worker.loadavg else None,
        "memory_mb": round(worker.rss_bytes / 2**20) if isinstance(worker.rss_bytes, int) else None,
        "queues": list(worker.queues or ()),
        "paused": list(worker.paused or ()),
        "software": " ".join(str(each) for each in (worker.sw_ident, worker.sw_ver) if each),
    }


def task_row(task: Task | dict[str, Any]) -> dict[str, Any]:
    """A task in a few facts; one that we were only told of runs."""
    if isinstance(task, dict):
        started = task.get("time_start")
        for_s = time.time() - started if isinstance(started, (int, float)) else None
        return {
            "id": str(task.get("id")),
            "name": str(task.get("name") or ""),
            "state": "STARTED",
            "worker": str(task.get("hostname") or ""),
            "seconds": for_s,
            "args": str(task.get("args") or ""),
        }
    seconds = task.runtime
    if seconds is None and task.state == "STARTED" and task.started:
        seconds = time.time() - task.started
    return {
        "id": task.uuid,
        "name": str(task.name or ""),
        "state": task.state,
        "worker": task.hostname or "",
        "seconds": seconds,
        "args": str(task.args or ""),
    }


def selected(view: View, depths: Mapping[str, int | None]) -> str | None:
    """What the cursor is on: a node, a task id or a queue."""
    if view.pane == "workers":
        rows = [each.hostname for each in view.workers()]
    elif view.pane == "tasks":
        rows = [task_row(each)["id"] for each in view.tasks()]
    else:
        rows = sorted(depths)
    if not rows:
        return None
    view.cursor = min(view.cursor, len(rows) - 1)
    return rows[view.cursor]


def drawn(view: View, depths: Mapping[str, int | None], said: str, height: int | None) -> RenderableType:
    """The whole screen. height: lines there are; none for no screen."""
    alive = sum(1 for each in view.workers() if each.alive)
    head = Text(f"opsq top   {alive} workers   {view.per_second():.1f} tasks/s   {view.state.event_count} events")
    room = ROWS_WITHOUT_A_SCREEN if height is None else max(3, height - 12 - len(view.workers()) - len(depths))
    parts: list[RenderableType] = [head, _workers(view), _queues(view, depths), _tasks(view, room)]
    if view.interactive:
        line = f"{view.asking[0]}: {view.answer}▏" if view.asking else said
        keys = f"tab {view.pane}   ↑↓ choose   {KEYS[view.pane]}   q quit"
        parts += [Text(line, style="bold", overflow="ellipsis", no_wrap=True), Text(keys, style="reverse")]
    return Group(*parts)


def _table(view: View, pane: str, *columns: str) -> Table:
    title = Text(pane.upper(), style="bold reverse" if view.interactive and view.pane == pane else "bold")
    table = Table(
        *columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="dim", expand=True
    )
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    return table


def _style(view: View, pane: str, row: int) -> str:
    return "reverse" if view.interactive and view.pane == pane and view.cursor == row else ""


def _workers(view: View) -> Table:
    table = _table(view, "workers", "worker", "status", "busy", "done", "load", "memory", "queues", "software")
    for number, row in enumerate(map(worker_row, view.workers())):
        paused = f"  paused: {', '.join(row['paused'])}" if row["paused"] else ""
        table.add_row(
            row["worker"],
            _state(row["status"]),
            f"{_figure(row['active'])}/{_figure(row['slots'])}",
            _figure(row["processed"]),
            _figure(row["load"]),
            "–" if row["memory_mb"] is None else f"{row['memory_mb']} MB",
            Text(", ".join(map(str, row["queues"])) + paused),
            row["software"],
            style=_style(view, "workers", number),
        )
    return table


def _queues(view: View, depths: Mapping[str, int | None]) -> Table:
    table = _table(view, "queues", "queue", "waiting", "state")
    paused = {name for worker in view.workers() for name in view.paused_of(worker)}
    for number, name in enumerate(sorted(depths)):
        state = "paused" if name in paused else ""
        table.add_row(Text(name), _figure(depths[name]), state, style=_style(view, "queues", number))
    return table


def _tasks(view: View, room: int) -> Table:
    table = _table(view, "tasks", "id", "name", "state", "seconds", "worker", "args")
    first = max(0, view.cursor - room + 1) if view.pane == "tasks" else 0
    for number, row in enumerate(map(task_row, view.tasks()[first : first + room]), first):
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.2f}"
        style = _style(view, "tasks", number)
        cells = (
            Text(row["id"]),
            Text(row["name"]),
            _state(row["state"]),
            seconds,
            Text(row["worker"]),
            Text(row["args"]),
        )
        table.add_row(*cells, style=style)
    return table


def _state(word: str) -> Text:
    return Text(word, style=_STYLES.get(word, ""))


def _figure(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
