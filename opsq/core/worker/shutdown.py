"""Stop without losing anything: what has not begun goes back, what runs may finish, within a deadline.

Warm: wait for what runs. Cold, when the deadline passes or somebody hurries: what still runs goes
back to the broker as well and is killed with the pool; an early-ack run that is cut off is reported.
"""

from __future__ import annotations

import logging
import threading
import time

from opsq.core.pools.base import Pool
from opsq.core.worker.ledger import Ledger
from opsq.core.worker.owner import Owner
from opsq.core.worker.receive import Receiver
from opsq.core.worker.settle import Settler

log = logging.getLogger(__name__)

ROUND_S = 0.02
FLUSH_S = 2.0


class Shutdown:
    """Winds the worker down, once. Thread: the one that stops the process graph.

    hurry: makes a warm shutdown cold.
    """

    def __init__(
        self, owner: Owner, pool: Pool, ledger: Ledger, receiver: Receiver, settler: Settler, hurry: threading.Event
    ) -> None:
        self._owner = owner
        self._pool = pool
        self._ledger = ledger
        self._receiver = receiver
        self._settler = settler
        self._hurry = hurry
        self._done = False

    def run(self, deadline: float) -> None:
        """Stop by ``deadline`` (monotonic seconds)."""
        if self._done:
            return
        self._done = True
        self._owner.pause()
        self._owner.call(self._return_waiting, FLUSH_S)
        # One more turn: what was being acknowledged early meanwhile has reached the pool by then.
        self._owner.call(self._settler.drain, FLUSH_S)
        self._give_back(set(self._pool.recall()))
        self._wait(deadline)
        self._return_running()
        self._owner.call(self._settler.drain, FLUSH_S)
        self._wait_for_settlements(time.monotonic() + FLUSH_S)
        self._owner.stop(time.monotonic() + FLUSH_S)

    def _return_waiting(self) -> None:
        """Give back what is held for a time or a rate. Thread: the owner's."""
        self._settler.give_back(self._receiver.take_back())

    def _give_back(self, keys: set[int]) -> None:
        """Give back what has no outcome; a pool hands an outcome over before it forgets the run."""

        def on_owner() -> None:
            self._settler.drain()
            self._settler.give_back([entry for key in keys if (entry := self._ledger.get(key)) is not None])

        if keys and not self._owner.call(on_owner, FLUSH_S):
            log.warning("the broker is away, so it will deliver these again by itself", extra={"tasks": len(keys)})

    def _wait(self, deadline: float) -> None:
        """Wait for what runs, until it is done, the deadline passes, or somebody hurries."""
        running = len(self._pool.running())
        if running:
            log.info("waiting for running tasks", extra={"running": running})
        while self._pool.running() and time.monotonic() < deadline:
            if self._hurry.wait(max(0.0, min(ROUND_S, deadline - time.monotonic()))):
                return

    def _return_running(self) -> None:
        """Give back what did not finish; the pool stops it, now where it can and else at its end."""
        keys = set(self._pool.drain(time.monotonic()))
        if keys:
            log.warning("tasks did not finish in time and go back", extra={"tasks": len(keys)})
            self._give_back(keys)

    def _wait_for_settlements(self, deadline: float) -> None:
        """Let the owner thread acknowledge what has finished."""
        pause = threading.Event()
        while len(self._ledger) and self._owner.consumer is not None and time.monotonic() < deadline:
            # A round trip through the owner thread, then a moment for the broker's answer.
            self._owner.call(self._settler.drain, 0.1)
            pause.wait(0.005)
