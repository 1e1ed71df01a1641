"""``opsq top``: workers, tasks and queues in a terminal, as they are now, and keys to steer them."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from opsq.broker.connection import open_connection
from opsq.broker.depth import depth
from opsq.cli.output import print_json
from opsq.cli.state import CliState, app_options, pass_state
from opsq.cli.top_keys import Keys
from opsq.cli.top_view import PANES, View, drawn, selected, task_row, worker_row
from opsq.cli.watching import stream_of
from opsq.core.app import Opsq
from opsq.errors import BrokerUnavailable, OpsqError
from opsq.events.state import State
from opsq.events.stream import Stream
from opsq.wire.event import Event

EXAMPLES = """\b
Examples:
  opsq top                      the embedded broker of this folder
  opsq top -b redis://broker    any cluster, Celery's too
  opsq top --once --json        what it would show, for programs
"""
ANSWER_S = 2.0
DEPTHS_EVERY_S = 2.0
LOOK_S = 0.1
ONCE_S = 1.0
ACTIONS_MAX = 20


class Steersman:
    """Carries orders out on a thread of its own, so that the screen goes on; what came of the last is ``said``."""

    def __init__(self, app: Opsq) -> None:
        self.said = ""
        self._app = app
        self._wanted: queue.Queue[Callable[[], str] | None] = queue.Queue(ACTIONS_MAX)
        self._thread = threading.Thread(target=self._main, name="opsq-top-orders", daemon=True)
        self._thread.start()

    def order(self, command: str, destination: list[str] | None, expected: int | None = None, **arguments: Any) -> None:
        """Send a command to workers; all of them without ``destination``. expected: how many answers to wait for."""
        self.said = f"{command} …"
        with contextlib.suppress(queue.Full):
            self._wanted.put_nowait(partial(self._send, command, destination, expected, arguments))

    def stop(self) -> None:
        """End after what is under way."""
        with contextlib.suppress(queue.Full):
            self._wanted.put_nowait(None)
        self._thread.join(ANSWER_S)

    def _main(self) -> None:
        while (work := self._wanted.get()) is not None:
            try:
                self.said = work()
            except OpsqError as exc:
                self.said = f"error: {exc}"

    def _send(
        self, command: str, destination: list[str] | None, expected: int | None, arguments: dict[str, Any]
    ) -> str:
        control = self._app.control
        kept = destination is None and control.keep(command, arguments)
        limit = len(destination) if destination else expected or None
        answers = control.broadcast(
            command, arguments, destination, reply=True, timeout=ANSWER_S, limit=limit, kept=kept
        )
        told = [f"{node}: {_words(each[node])}" for each in answers or () for node in each]
        return f"{command}: {'; '.join(told) or ('kept in the broker' if kept else 'nobody answered')}"


class Depths:
    """How much waits in the queues that workers consume; asked every two seconds on a thread of its own."""

    def __init__(self, app: Opsq, names: Callable[[], list[str]]) -> None:
        self.found: dict[str, int | None] = {}
        self._app = app
        self._names = names
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name="opsq-top-depths", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopping.set()
        self._thread.join(ANSWER_S)

    def look(self) -> None:
        """Ask now. Raises: BrokerUnavailable."""
        names = self._names()
        connection = open_connection(self._app.settings, purpose="read")
        try:
            connection.connect()
            seen = depth(connection, names)
            self.found = {name: seen[name].ready if name in seen else None for name in names}
        finally:
            connection.close()

    def _main(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except BrokerUnavailable:
                self.found = dict.fromkeys(self.found)
            self._stopping.wait(DEPTHS_EVERY_S if self.found else LOOK_S)


@click.command(epilog=EXAMPLES)
@app_options
@click.option("--once", is_flag=True, help="Print once and end; what happens anyway without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, once.")
@pass_state
def top(state: CliState, once: bool, as_json: bool) -> int:
    """Show workers, tasks and queues, live.

    Keys: tab and arrows choose; + and - slots of a worker; r revoke, k kill a task, l limit its type's rate;
    p pause or resume a queue; q quit.
    """
    app = state.load_app()
    try:
        with stream_of(app) as stream:
            view = View(State(), app.settings.task_default_queue)
            depths = Depths(app, lambda: queue_names(view))
            try:
                _introduce(app, stream, view)
                if once or as_json or not (sys.stdout.isatty() and sys.stdin.isatty()):
                    depths.look()
                    return _print_once(view, depths, as_json)
                with contextlib.suppress(KeyboardInterrupt):
                    _live(app, stream, view, depths)
            finally:
                depths.stop()
    finally:
        app.close()
    return 0


def queue_names(view: View) -> list[str]:
    """The queues that workers consume, or have paused, and the default one."""
    found = {view.default_queue, *view.told_queues}
    for worker in list(view.state.workers.values()):
        found |= {str(name) for name in worker.queues or ()} | view.paused_of(worker)
    return sorted(found)


def _introduce(app: Opsq, stream: Stream, view: View) -> None:
    """Hear of what is there already: have every worker send a heartbeat, and ask for running tasks and queues."""
    app.control.heartbeat()
    found = app.control.inspect(timeout=ONCE_S).active_queues() or {}
    for queues in found.values():
        rows = queues if isinstance(queues, list) else []
        view.told_queues |= {str(each["name"]) for each in rows if isinstance(each, dict) and "name" in each}
    # Of those that are there, so that it need not wait for others.
    active = app.control.inspect(list(found), timeout=ONCE_S).active(safe=True) if found else {}
    for node, running in (active or {}).items():
        view.running[node] = [each for each in running if isinstance(each, dict)] if isinstance(running, list) else []
    _take(stream, view)


def _take(stream: Stream, view: View) -> None:
    for event in stream.take(LOOK_S):
        if isinstance(event, Event):
            view.event(event)


def _print_once(view: View, depths: Depths, as_json: bool) -> int:
    if as_json:
        workers = [worker_row(each) for each in view.workers()]
        tasks = [task_row(each) for each in view.tasks()]
        print_json({"workers": workers, "tasks": tasks, "queues": depths.found, "events": view.state.event_count})
    else:
        Console().print(drawn(view, depths.found, "", None))
    return 0


def _live(app: Opsq, stream: Stream, view: View, depths: Depths) -> None:
    steersman = Steersman(app)
    console = Console()
    try:
        with Keys(sys.stdin) as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            view.interactive = True
            while True:
                for key in keys.pressed():
                    if not _act(key, view, depths, steersman):
                        return
                _take(stream, view)
                live.update(drawn(view, depths.found, steersman.said, console.height), refresh=True)
    finally:
        steersman.stop()


def _act(key: str, view: View, depths: Depths, steersman: Steersman) -> bool:
    """Do what a key asks for; false to end."""
    if view.asking is not None:
        _typed(key, view, steersman)
        return True
    if key in ("q", "Q", "esc"):
        return False
    if key in ("tab", "left", "right"):
        view.pane = PANES[(PANES.index(view.pane) + (-1 if key == "left" else 1)) % len(PANES)]
        view.cursor = 0
    elif key in ("up", "down", "j"):
        view.cursor = max(0, view.cursor + (-1 if key == "up" else 1))
    else:
        _steer(key, view, depths, steersman)
    return True


def _steer(key: str, view: View, depths: Depths, steersman: Steersman) -> None:
    chosen = selected(view, depths.found)
    if chosen is None:
        return
    if view.pane == "workers" and key in "+-":
        steersman.order("pool_grow" if key == "+" else "pool_shrink", [chosen], n=1)
    elif view.pane == "tasks" and key in "rk":
        steersman.order("revoke", None, alive(view), task_id=chosen, terminate=key == "k", signal="TERM")
    elif view.pane == "tasks" and key == "l":
        name = view.name_of(chosen)
        view.asking, view.answer = (f"rate limit of {name} (such as 10/m, 0 for none)", name), ""
    elif view.pane == "queues" and key == "p":
        paused = any(chosen in view.paused_of(worker) for worker in view.workers())
        steersman.order("resume" if paused else "pause", None, alive(view), queue=[chosen])


def alive(view: View) -> int:
    """How many workers are there to answer."""
    return sum(1 for each in view.workers() if each.alive)


def _typed(key: str, view: View, steersman: Steersman) -> None:
    """Take one key of an answer."""
    assert view.asking is not None
    if key == "enter" and view.answer:
        steersman.order("rate_limit", None, alive(view), task_name=view.asking[1], rate_limit=view.answer)
        view.asking = None
    elif key in ("esc", "enter"):
        view.asking = None
    elif key == "backspace":
        view.answer = view.answer[:-1]
    elif len(key) == 1 and key.isprintable() and len(view.answer) < 20:
        view.answer += key


def _words(answer: Any) -> str:
    if isinstance(answer, dict):
        return str(answer.get("ok") or answer.get("error") or answer)
    return "OK" if answer is None else str(answer)
