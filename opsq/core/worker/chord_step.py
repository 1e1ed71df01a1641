"""A worker's sweeper of chords: completes what a worker that died left half done."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, ClassVar, Final

from opsq.bootsteps import Bootstep, Provided
from opsq.core.worker.chords import Chords
from opsq.core.worker.execute import Executor
from opsq.errors import OpsqError

log = logging.getLogger(__name__)

EVERY_S: Final = 5.0


class Sweeper:
    """Looks for chords to complete, on a thread of its own. every_s: how often."""

    def __init__(self, chords: Chords, every_s: float = EVERY_S) -> None:
        self._chords = chords
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._main, name="opsq-chords", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """End it; twice does no harm."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _main(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self._chords.sweep()
            except OpsqError as exc:
                log.warning("chords could not be looked at", extra={"error": str(exc)})
            except Exception:  # boundary: one bad chord must not end the sweeping
                log.exception("a chord could not be completed")


class ChordStep(Bootstep[Any]):
    """Complete the chords that a dead worker left."""

    name: ClassVar[str] = "chords"
    requires: ClassVar[tuple[type[Any], ...]] = (Executor,)
    _sweeper: Sweeper | None = None

    def start(self, up: Provided) -> None:
        """Start looking, if the result store counts chords."""
        chords = up[Executor].follower.chords
        if chords.counting:
            self._sweeper = Sweeper(chords)
            self._sweeper.start()

    def stop(self, deadline: float) -> None:
        """Look no more."""
        if self._sweeper is not None:
            self._sweeper.stop(deadline)
