"""A worker step: a file that says what the worker is doing, for a script that cannot ask it.

app.steps["worker"].add(StatusFile)
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import ClassVar

from opsq.bootsteps import Bootstep, Provided
from opsq.core.worker.plan import WorkerPlan
from opsq.core.worker.receive import Receiver
from opsq.settings import Settings

EVERY_S = 1.0


class StatusFile(Bootstep[None]):
    """Writes ``worker.json`` into the data folder once a second while the worker runs, and removes it."""

    name: ClassVar[str] = "status-file"
    # Whatever provides a Receiver starts before this step and stops after it.
    requires: ClassVar[tuple[type, ...]] = (Settings, WorkerPlan, Receiver)

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._path: Path | None = None

    def start(self, up: Provided) -> None:
        """Write the file, and again and again from a thread of its own."""
        self._path = Path(up[Settings].data_dir) / "worker.json"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._write(up[WorkerPlan])
        self._thread = threading.Thread(target=self._keep, args=(up[WorkerPlan],), name="status-file", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Remove the file. Called as well when ``start`` failed half-way, and perhaps twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(EVERY_S)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _keep(self, plan: WorkerPlan) -> None:
        while not self._stop.wait(EVERY_S):
            self._write(plan)

    def _write(self, plan: WorkerPlan) -> None:
        assert self._path is not None
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps({"pid": os.getpid(), "name": plan.hostname, **plan.facts()}))
        beside.replace(self._path)  # a reader never sees half a file
