"""The remote command that tells where running tasks are in their code, without stopping them.

A child process writes its stacks into a file (``stack_file.py``). In pools inside the worker's own process the
frames are looked up by the job that they run.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any

from opsq.core.pools.base import Job
from opsq.core.worker.ledger import Entry
from opsq.core.worker.stack_file import STACK_MAX, Unseen, in_child
from opsq.core.worker.stack_own import own_from
from opsq.core.worker.station import Station


def stack(station: Station, task_id: str | Sequence[str] | None) -> list[dict[str, Any]]:
    """The stacks of the tasks with these ids, or of all that run."""
    ids = None if task_id is None else {task_id} if isinstance(task_id, str) else set(task_id)
    running = [entry for entry in station.entries() if entry.started_at is not None and entry.outcome is None]
    return [_described(station, entry) for entry in running if ids is None or entry.headers.id in ids]


def _described(station: Station, entry: Entry) -> dict[str, Any]:
    said: dict[str, Any] = {"id": entry.headers.id, "name": entry.headers.task, "pid": entry.pid or os.getpid()}
    try:
        if station.pool.capabilities.isolates_crash:
            return {**said, "stack": in_child(entry.pid)}
        return {**said, "stack": _in_this_process(station.pool, entry.key)}
    except (Unseen, OSError) as exc:
        return {**said, "stack": "", "why": str(exc)}


def _in_this_process(pool: Any, key: int) -> str:
    find = getattr(pool, "frames_of", None)
    frames: list[FrameType] = find(key) if find is not None else _frames_of_thread(key)
    if not frames:
        raise Unseen("it has just ended, or not begun")
    frames = frames[own_from([frame.f_code.co_filename for frame in frames]) :]
    summary = traceback.StackSummary.extract(((frame, frame.f_lineno) for frame in frames), limit=-STACK_MAX)
    return "".join(summary.format()).rstrip()


def _frames_of_thread(key: int) -> list[FrameType]:
    """The frames of the thread that runs the job ``key``, outermost first."""
    for thread, frame in sys._current_frames().items():
        found: list[FrameType] = []
        at: FrameType | None = frame
        while at is not None:
            found.append(at)
            at = at.f_back
        for each in found:
            job = each.f_locals.get("job") if each.f_code.co_name in ("_run_one", "run") else None
            if isinstance(job, Job) and job.key == key and thread:
                return found[::-1]
    return []
