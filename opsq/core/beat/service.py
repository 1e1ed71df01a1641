"""A beat: leads or waits to lead, sends what is due, hears remote commands."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from functools import partial
from typing import Any, Final

from opsq import plugins
from opsq.broker.connection import open_connection
from opsq.broker.publisher import Publisher
from opsq.broker.retry import NO_RETRY
from opsq.clock import Clock, LamportClock, SystemClock
from opsq.core.beat.ears import beat_ears
from opsq.core.beat.lead import Lead, LostLead
from opsq.core.beat.orders import HANDLERS
from opsq.core.beat.scheduler import Scheduler
from opsq.core.schedules.store import ScheduleStore, open_store
from opsq.core.worker.ears import Ears
from opsq.core.worker.emit import EVENTS_DEADLINE_S, Emitter
from opsq.core.worker.naming import node_name
from opsq.errors import BrokerUnavailable, ConfigError, StoreUnavailable, UsageError
from opsq.signals import beat_embedded_init, beat_init

log = logging.getLogger(__name__)

LOOKS_PER_LEASE: Final = 5
"""How often in the length of a lease a beat that waits looks whether it may lead."""
RETRY_S: Final = 1.0
ORDERS_MAX: Final = 100
ORDER_S: Final = 5.0
STOP_S: Final = 10.0


class Beat:
    """One beat of one app. Thread: ``start`` and ``stop`` from any; twice does no harm.

    hostname: node name, ``beat@%h`` by default. embedded: runs in a worker. probe: called as ``probe(what)`` at
    ``leads``, ``listening`` and ``stopped``, for tests. Raises: ConfigError when the schedule cannot be read.
    """

    def __init__(
        self,
        app: Any,
        *,
        hostname: str | None = None,
        embedded: bool = False,
        clock: Clock | None = None,
        store: ScheduleStore | None = None,
        probe: Callable[[str], None] = lambda what: None,
    ) -> None:
        app.import_task_modules()
        app.finalize()
        settings = app.settings
        self.app = app
        self.hostname = beat_name(hostname)
        self.clock = clock or SystemClock()
        self.store = store or open_store(settings)
        self.error: BaseException | None = None
        self._embedded = embedded
        self._probe = probe
        self._lead = Lead(
            self.store, f"{self.hostname}-{uuid.uuid4().hex[:8]}", settings.beat_lease_seconds, self.clock
        )
        self.scheduler = scheduler_class(settings.beat_scheduler)(app, self._lead, self.clock, self._announce)
        self.scheduler.entries()  # what is wrong with it is said before anything starts
        self._orders: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue(ORDERS_MAX)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._looked_at = self.clock.monotonic()
        self._emitter: Emitter | None = None
        self._ears: Ears | None = None
        self._thread: threading.Thread | None = None

    @property
    def leads(self) -> bool:
        """Whether it is this one that sends."""
        return self._lead.token is not None

    def start(self) -> None:
        """Begin, in the background."""
        beat_init.send(sender=self)
        if self._embedded:
            beat_embedded_init.send(sender=self)
        settings = self.app.settings
        connect = partial(open_connection, settings, purpose="write")
        events = Publisher(connect, NO_RETRY, deadline_s=EVENTS_DEADLINE_S, confirm="async")
        self._emitter = Emitter(self.hostname, events, settings, None, self.clock, LamportClock())
        self._emitter.start()
        if settings.worker_enable_remote_control:
            self._ears = beat_ears(
                self.app, self.hostname, self._order, self._answers_ping, lambda: self._probe("listening")
            )
            self._ears.start()
        self._thread = threading.Thread(target=self._main, name="opsq-beat", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Lead no more, so that another may at once, and end."""
        deadline = time.monotonic() + timeout_s
        self.ask_to_stop()
        if self._ears is not None:
            self._ears.stop(deadline)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._emitter is not None:
            self._emitter.stop(deadline)
        self.store.close()

    def ask_to_stop(self) -> None:
        """Have it end soon. Thread: any, also a signal handler's."""
        self._stopping.set()
        self._wake.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended; whether it has."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _main(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except LostLead:
                log.warning("another beat leads now", extra={"node": self.hostname})
            except StoreUnavailable as error:
                self._lead.drop()
                log.error("the schedule cannot be read or written just now", extra={"error": str(error)})
                self._pause(RETRY_S)
            except ConfigError as error:
                self.error = error
                log.error("the schedule cannot be read", extra={"error": str(error)})
                break
            except Exception:  # boundary: a bug must not end the schedule for good
                self._lead.drop()
                log.exception("the schedule was interrupted and begins again")
                self._pause(RETRY_S)
            self._looked_at = self.clock.monotonic()
        self._end()

    def _turn(self) -> None:
        if self._lead.token is None:
            if not self._lead.take():
                self._refuse_orders()
                self._pause(self._lead.ttl_s / LOOKS_PER_LEASE * random.uniform(0.5, 1.0))
                return
            self.scheduler.take_over()
            log.info("leads the schedule", extra={"node": self.hostname, "entries": len(self.scheduler.items)})
            self._probe("leads")
        self._carry_out_orders()
        self._pause(min(self.scheduler.tick(), self._lead.renew_in_s))

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def _end(self) -> None:
        self._stopping.set()
        self._refuse_orders()
        if self.leads:
            self.scheduler.end()
        try:
            self._lead.release()
        except StoreUnavailable as error:
            log.warning("another beat can lead only when the lease has ended", extra={"error": str(error)})
        self._probe("stopped")

    # ---- remote commands

    def _order(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """Have the loop carry out a command; None when this beat does not lead. Thread: the ears'."""
        if not self.leads:
            return None
        done: Future[Any] = Future()
        try:
            self._orders.put_nowait((partial(HANDLERS[command], self.scheduler, **arguments), done))
        except queue.Full:
            raise UsageError("the beat has too much to do; ask again") from None
        self._wake.set()
        try:
            return done.result(ORDER_S)
        except NotInTime:
            raise UsageError(f"the beat did not come to it within {ORDER_S:g} s") from None

    def _carry_out_orders(self) -> None:
        while not self._orders.empty():
            work, done = self._orders.get_nowait()
            try:
                done.set_result(work())
            except (LostLead, StoreUnavailable) as error:
                done.set_exception(BrokerUnavailable(f"the schedule could not be written: {error}"))
                raise
            except Exception as error:  # noqa: BLE001  # boundary: whoever asked is told
                done.set_exception(error)

    def _refuse_orders(self) -> None:
        while not self._orders.empty():
            _, done = self._orders.get_nowait()
            done.set_result(None)

    def _answers_ping(self) -> bool:
        settings = self.app.settings
        if not settings.beat_enable_remote_control:
            return False
        oldest_s = settings.beat_remote_control_max_tick_age
        if oldest_s is None:
            oldest_s = max(2 * (settings.beat_max_loop_interval or 300.0), 60.0)
        return bool(self.clock.monotonic() - self._looked_at <= oldest_s)

    def _announce(self, kind: str, fields: dict[str, Any]) -> None:
        if self._emitter is not None:
            self._emitter.emit(kind, fields)


def beat_name(given: str | None) -> str:
    """The node name of a beat; remote control knows beats by how it begins."""
    wanted = given or "beat@%h"
    return node_name(wanted if wanted.startswith("beat@") else f"beat@{wanted}")


def scheduler_class(given: Any) -> type[Scheduler]:
    """The class that the setting names. Raises: ConfigError for anything that is no scheduler of ours."""
    found = plugins.resolve(given, origin="beat_scheduler") if isinstance(given, str) else given
    if not isinstance(found, type) or not issubclass(found, Scheduler):
        raise ConfigError(
            f"beat_scheduler: expected a subclass of opsq.core.beat.scheduler.Scheduler, got {found!r}; "
            "a scheduler of Celery's cannot lead, hand its entries over in `entries` (examples/extend/scheduler.py)"
        )
    return found
