"""Stop without losing anything: what has not begun goes back, what runs may finish, within a deadline.

Warm: wait for what runs. Soft, when somebody hurries: wait a little longer. Cold, when the deadline
comes or somebody insists: what still runs goes back to the broker as well and is killed with the
pool; an early-ack run that is cut off is reported.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from opsq.core.pools.base import Pool
from opsq.core.worker.ledger import Ledger
from opsq.core.worker.owner import Owner
from opsq.core.worker.receive import Receiver
from opsq.core.worker.settle import Settler

log = logging.getLogger(__name__)

ROUND_S = 0.02
FLUSH_S = 2.0


@dataclass(slots=True)
class Haste:
    """How much time a shutdown still has; written by signals, read by the shutdown. Thread: any.

    hurry: leave the warm wait. at_once: leave the soft wait too. soft_s: length of the soft wait.
    soft_when_idle: wait softly even when nothing runs.
    """

    soft_s: float = 0.0
    soft_when_idle: bool = False
    hurry: threading.Event = field(default_factory=threading.Event)
    at_once: threading.Event = field(default_factory=threading.Event)


class Shutdown:
    """Winds the worker down, once. Thread: the one that stops the process graph."""

    def __init__(
        self, owner: Owner, pool: Pool, ledger: Ledger, receiver: Receiver, settler: Settler, haste: Haste
    ) -> None:
        self._owner = owner
        self._pool = pool
        self._ledger = ledger
        self._receiver = receiver
        self._settler = settler
        self._haste = haste
        self._begun = False
        self._done = False

    def begin(self, deadline: float) -> None:
        """Start no task any more and give back what waits, before anything else is stopped."""
        if self._begun:
            return
        self._begun = True
        self._owner.pause()
        # At once, and not only after a round trip through the owner: a slow broker must not let tasks start.
        recalled = set(self._pool.recall())
        self._owner.call(self._return_waiting, self._patience_s(deadline))
        # One more turn: what was being acknowledged early meanwhile has reached the pool by then.
        self._owner.call(self._settler.drain, self._patience_s(deadline))
        self._give_back(recalled | set(self._pool.recall()), deadline)

    def run(self, deadline: float) -> None:
        """Stop by ``deadline`` (monotonic seconds)."""
        if self._done:
            return
        self._done = True
        self.begin(deadline)
        haste = self._haste
        if not self._wait(deadline, haste.hurry, even_idle=False):
            soft_by = min(deadline, time.monotonic() + haste.soft_s)
            self._wait(soft_by, haste.at_once, even_idle=haste.soft_when_idle)
        haste.at_once.set()
        self._return_running(deadline)
        self._owner.call(self._settler.drain, FLUSH_S)
        self._wait_for_settlements(time.monotonic() + FLUSH_S)
        self._owner.call(self._settler.successes.flush, FLUSH_S)
        self._owner.stop(time.monotonic() + FLUSH_S)

    def _patience_s(self, deadline: float) -> float:
        return max(0.1, min(FLUSH_S, deadline - time.monotonic()))

    def _return_waiting(self) -> None:
        """Give back what is held for a time or a rate. Thread: the owner's."""
        self._settler.give_back(self._receiver.take_back())

    def _give_back(self, keys: set[int], deadline: float) -> None:
        """Give back what has no outcome; a pool hands an outcome over before it forgets the run."""

        def on_owner() -> None:
            self._settler.drain()
            self._settler.give_back([entry for key in keys if (entry := self._ledger.get(key)) is not None])

        if keys and not self._owner.call(on_owner, self._patience_s(deadline)):
            log.warning("the broker is away, so it will deliver these again by itself", extra={"tasks": len(keys)})

    def _wait(self, deadline: float, sooner: threading.Event, even_idle: bool) -> bool:
        """Wait for what runs until ``deadline``; false when ``sooner`` ended the waiting."""
        running = len(self._pool.running())
        if sooner.is_set():
            return False
        if running:
            log.info("waiting for running tasks", extra={"running": running})
        while (even_idle or self._pool.running()) and time.monotonic() < deadline:
            if sooner.wait(max(0.0, min(ROUND_S, deadline - time.monotonic()))):
                return False
        return True

    def _return_running(self, deadline: float) -> None:
        """Give back what did not finish; the pool stops it, now where it can and else at its end."""
        keys = set(self._pool.drain(time.monotonic()))
        if keys:
            self._haste.hurry.set()
            log.warning("tasks did not finish in time and go back", extra={"tasks": len(keys)})
            self._give_back(keys, max(deadline, time.monotonic() + 1.0))

    def _wait_for_settlements(self, deadline: float) -> None:
        """Let the owner thread acknowledge what has finished."""
        pause = threading.Event()
        while len(self._ledger) and self._owner.consumer is not None and time.monotonic() < deadline:
            # A round trip through the owner thread, then a moment for the broker's answer.
            self._owner.call(self._settler.drain, 0.1)
            pause.wait(0.005)
