"""A worker step of the demo's own: sends work while the worker runs. Steps like it are how users extend a worker."""

from __future__ import annotations

import itertools
import os
import threading
from typing import ClassVar

from examples.demo.folder import SOURCE, make_folder
from opsq import Opsq
from opsq.bootsteps import Bootstep, Provided

PAUSE_S = 0.5
FILES_A_ROUND = 3
REBUILD_EVERY = 12
TASKS = "examples.demo.app"
BY_KIND = {".txt": "index_file", ".png": "thumbnail"}


class Feeder(Bootstep[None]):
    """Sends a few calls twice a second, from a thread of its own.

    DEMO_SECONDS ends the feeding after that many seconds; without it, it goes on.
    """

    name: ClassVar[str] = "demo-feeder"
    requires: ClassVar[tuple[type, ...]] = (Opsq,)

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, up: Provided) -> None:
        """Generate the folder when it is not there, and begin to send."""
        self._thread = threading.Thread(target=self._feed, args=(up[Opsq],), name="demo-feeder", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Send nothing more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(PAUSE_S * 2)

    def _feed(self, app: Opsq) -> None:
        files = itertools.cycle(make_folder(SOURCE))
        seconds = float(os.environ.get("DEMO_SECONDS", "inf"))
        rounds = itertools.count(1) if seconds == float("inf") else range(1, int(seconds / PAUSE_S) + 1)
        for number in rounds:
            for path in itertools.islice(files, FILES_A_ROUND):
                for task in ("hash_file", "compress_file", "add_to_catalogue", BY_KIND[path.suffix]):
                    app.send_task(f"{TASKS}.{task}", [path.name])
            if number % REBUILD_EVERY == 0:
                app.send_task(f"{TASKS}.rebuild_catalogue")
            if self._stop.wait(PAUSE_S):
                return
