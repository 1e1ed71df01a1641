"""The owner thread: build a connection, run its loop, and do so again for as long as the worker lives.

What belongs to one connection is a graph of its own, started for each connection and stopped when
it is lost; the pool, the emitter and what is running survive.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from opsq.bootsteps import Bootstep, Graph, Provided
from opsq.broker.consumer import Consumer
from opsq.broker.faults import BrokerUnusable
from opsq.core.worker.ledger import Ledger
from opsq.core.worker.probes import Probe
from opsq.core.worker.receive import Receiver
from opsq.core.worker.settle import Settler
from opsq.errors import LifecycleError, OpsqError, StartError, Unavailable

log = logging.getLogger(__name__)

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 1.5
CLOSE_S = 5.0


class Owner:
    """The thread that owns the broker connection. Thread: named at each method.

    steps: makes the steps of one connection, anew each time. on_fatal: called with the error when
    trying again cannot help. max_failures(first): failed attempts in a row before giving up, None for
    no end; first is true until there was a connection.
    """

    def __init__(
        self,
        steps: Callable[[], Sequence[Bootstep[Any]]],
        up: Provided,
        ledger: Ledger,
        receiver: Receiver,
        settler: Settler,
        on_ready: Callable[[], None],
        on_fatal: Callable[[BaseException], None],
        max_failures: Callable[[bool], int | None],
        probe: Probe,
    ) -> None:
        self._steps = steps
        self._up = up
        self._ledger = ledger
        self._receiver = receiver
        self._settler = settler
        self._on_ready = on_ready
        self._on_fatal = on_fatal
        self._max_failures = max_failures
        self._probe = probe
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = 0
        self._connected_once = False
        self.consumer: Consumer | None = None
        self.rebuilds = 0
        self.paused = False
        self.ticked_at = time.monotonic()

    def start(self) -> None:
        """Start the thread. Thread: any."""
        self._thread = threading.Thread(target=self._main, name="opsq-owner", daemon=True)
        self._thread.start()

    @property
    def failures(self) -> int:
        """Failed attempts to connect since there was a connection."""
        return self._failures

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def pause(self) -> None:
        """Take no new deliveries, on this connection and the next. Thread: any."""
        self.paused = True
        consumer = self.consumer
        if consumer is not None:
            consumer.pause()

    def call(self, work: Callable[[], None], timeout_s: float) -> bool:
        """Run ``work`` on the owner thread and wait for it; false when it did not come to it in time.

        Thread: any but the owner's.
        """
        consumer, done = self.consumer, threading.Event()
        if consumer is None:
            return False

        def run() -> None:
            try:
                work()
            finally:
                done.set()

        consumer.call_soon(run)
        return done.wait(max(0.0, timeout_s))

    def stop(self, deadline: float) -> None:
        """End the loop and close the connection by ``deadline`` (monotonic seconds). Thread: any."""
        self._stopping.set()
        consumer, thread = self.consumer, self._thread
        if consumer is not None:
            consumer.stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("the broker did not let go of the owner thread in time; it is left behind")

    def _main(self) -> None:
        while not self._stopping.is_set():
            try:
                self._one_connection()
            except (Unavailable, StartError) as exc:
                if not self._may_retry(exc):
                    return
                self._stopping.wait(self._backoff_s(exc))
            except Exception as exc:  # boundary: a bug in the loop must end the worker loudly, not silently
                if not self._stopping.is_set():
                    log.exception("the owner loop broke")
                    self._on_fatal(exc)
                return

    def _one_connection(self) -> None:
        """Connect, consume until stopped. Raises: BrokerUnavailable, StartError."""
        graph = Graph(self._steps(), self._up)
        try:
            graph.start()
            consumer = graph.provided[Consumer]
            self._receiver.attach(consumer.settle)
            self._settler.attach(consumer, self._receiver)
            self.consumer = consumer
            if self._stopping.is_set():
                return
            if self.paused:
                consumer.pause()
            self._failures = 0
            self._connected_once = True
            consumer.call_soon(self._on_ready)
            consumer.run()
        finally:
            self.consumer = None
            self._settler.detach()
            if not self._stopping.is_set():
                self._receiver.disconnected()
            self._close(graph)

    def _close(self, graph: Graph) -> None:
        try:
            graph.stop(CLOSE_S)
        except LifecycleError as exc:
            log.warning("closing the connection failed", extra={"error": str(exc)})

    def _may_retry(self, exc: OpsqError) -> bool:
        if self._stopping.is_set():
            return False
        cause = exc.__cause__ if isinstance(exc, StartError) else exc
        self._failures += 1
        most = self._max_failures(not self._connected_once)
        given_up = most is not None and self._failures > most
        if isinstance(cause, Unavailable) and not isinstance(cause, BrokerUnusable) and not given_up:
            return True
        self._on_fatal(cause if isinstance(cause, OpsqError) else exc)
        return False

    def _backoff_s(self, exc: OpsqError) -> float:
        self.rebuilds += 1
        self._ledger.count("connections_lost")
        wait_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)
        log.warning(
            "the broker is not available, trying again",
            extra={"error": str(exc), "in_s": round(wait_s, 2), "attempt": self._failures},
        )
        if self._probe is not None:
            self._probe("disconnected", "", str(exc))
        return wait_s
