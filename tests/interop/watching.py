"""Celery's own event receiver and its state, inside a Celery client process; asked like ``cases.py``."""

from __future__ import annotations

import threading
from typing import Any

from cases import until

#: The state of this process's receiver, and every event in the order it came.
WATCHED: dict[str, Any] = {}


def watch(m: Any, worker: str) -> None:
    """Start to receive, and return once ``worker`` was heard."""
    state, kinds = m.app.events.State(), []
    WATCHED.update(state=state, kinds=kinds)

    def receive() -> None:
        def on_event(event: dict[str, Any]) -> None:
            kinds.append((event["type"], event.get("uuid"), event["hostname"]))
            state.event(event)

        with m.app.connection_for_read() as connection:
            m.app.events.Receiver(connection, handlers={"*": on_event}).capture(limit=None, timeout=None, wakeup=True)

    threading.Thread(target=receive, daemon=True).start()
    until(lambda: worker in state.workers, f"an event of {worker}")


def watched_task(m: Any, id: str, ending: str) -> dict[str, Any]:
    """Wait until a task is seen in state ``ending`` and as sent; what Celery's state knows of it."""
    tasks = WATCHED["state"].tasks
    until(lambda: id in tasks and tasks[id].state == ending and tasks[id].sent, f"{ending} of {id}")
    task = tasks[id]
    names = ("name", "args", "kwargs", "result", "exception", "traceback", "runtime", "retries", "root_id", "parent_id")
    times = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked")
    known = {name: getattr(task, name) for name in (*names, *times)}
    kinds = [kind for kind, uuid, _ in WATCHED["kinds"] if uuid == id]
    return {**known, "worker": task.worker.hostname if task.worker else None, "kinds": kinds}


def watched_worker(m: Any, name: str) -> dict[str, Any]:
    """What Celery's state knows of a worker now."""
    worker = WATCHED["state"].workers[name]
    wanted = ("alive", "pid", "freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys", "clock")
    return {key: getattr(worker, key) for key in wanted}


def watched_until_dead(m: Any, name: str) -> None:
    """Wait until Celery's state takes a worker for gone."""
    until(lambda: not WATCHED["state"].workers[name].alive, f"the end of {name}")
