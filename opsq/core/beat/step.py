"""``opsq worker -B``: a beat inside a worker, in a thread of its main process."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from opsq.bootsteps import Bootstep, Provided
from opsq.core.app import Opsq
from opsq.core.beat.service import STOP_S, Beat
from opsq.core.worker.plan import WorkerPlan


class BeatStep(Bootstep[Any]):
    """Run a beat as long as the worker runs; workers with ``-B`` on several machines share one leader."""

    name: ClassVar[str] = "beat"
    requires: ClassVar[tuple[type[Any], ...]] = (Opsq, WorkerPlan)
    provides: ClassVar[type[Any] | None] = Beat

    def __init__(self) -> None:
        self._beat: Beat | None = None

    def start(self, up: Provided) -> Beat:
        """Begin. Raises: ConfigError."""
        host = up[WorkerPlan].hostname.partition("@")[2]
        self._beat = Beat(up[Opsq], hostname=f"beat@{host}", embedded=True)
        self._beat.start()
        return self._beat

    def stop(self, deadline: float) -> None:
        """Let another lead."""
        if self._beat is not None:
            self._beat.stop(max(0.0, min(STOP_S, deadline - time.monotonic())))
