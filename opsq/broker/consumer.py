"""The owner loop: the one thread that talks to the broker for a worker or a monitor.

Everything that touches the connection happens here: fetching, settling, renewing leases, adding and
cancelling queues. Other threads leave settlements and calls in mailboxes; the owner is woken at once
when it sleeps, and not at all when it is awake and will look anyway.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from msgspec import Struct

from opsq.broker.connection import BrokerConnection
from opsq.broker.faults import BrokerBusy, BrokerStalled
from opsq.broker.mailbox import Mailbox
from opsq.broker.message import Delivery, Settlement
from opsq.broker.pace import LINGER_S, Pace
from opsq.broker.prefetch import Adaptive, Fixed, Prefetch
from opsq.broker.source import Source
from opsq.broker.topology import QueueSpec
from opsq.clock import Clock, SystemClock

BATCH = 256
STALL_S = 10.0
_BUSY_PAUSE_S = 0.1
_BUSY_LIMIT_S = 10.0
_LONGEST_SLEEP_S = 1.0
_MAILBOX_SPARE = 1_024
_LARGE_PREFETCH = 32

OnBatch = Callable[[list[Delivery]], None]
OnSettled = Callable[[list[Settlement]], None]
OnTick = Callable[[], float | None]


class ConsumerStats(Struct):
    """Counts since the consumer was made; monotonic time of the last delivery or settlement.

    stale: settlements of deliveries that are no longer held (settled twice, or by a connection that
    is gone). refused: settlements that found the mailbox full. busy: exchanges put off because the
    broker could not do them just then. rebuilds: times the watchdog gave a connection up.
    """

    delivered: int = 0
    settled: int = 0
    stale: int = 0
    refused: int = 0
    busy: int = 0
    rebuilds: int = 0
    exchanges: int = 0
    last_progress_at: float = 0.0


def _nothing(_: list[Settlement]) -> None:
    """Default callback."""


def _never() -> float | None:
    """Default callback."""
    return None


class Consumer:
    """Reads queues and settles what was read, on the thread that calls ``run``.

    on_batch: gets up to ``BATCH`` deliveries. on_settled: gets settlements after the broker took
    them. on_stale: gets settlements that came too late (see ``ConsumerStats``); the broker delivers
    those messages again, or has done so. on_tick: called at least when it asked to be (it returns
    seconds until then, or ``None``). All four run on the owner thread; what they raise ends ``run``.
    prefetch: most deliveries held unsettled, or ``Adaptive``. no_ack: deliveries count as settled
    when ``on_batch`` returns. stall_s: silence with messages waiting after which a connection is
    given up. Thread: any for every method but ``run``.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        queues: Sequence[QueueSpec],
        *,
        on_batch: OnBatch,
        on_settled: OnSettled | None = None,
        on_stale: OnSettled | None = None,
        on_tick: OnTick | None = None,
        prefetch: int | Prefetch = 1,
        no_ack: bool = False,
        clock: Clock | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        self._connection = connection
        self._queues = {queue.name: queue for queue in queues}
        self._on_batch = on_batch
        self._on_settled = on_settled or _nothing
        self._on_stale = on_stale or _nothing
        self._on_tick = on_tick or _never
        self._prefetch = _policy(prefetch)
        self._no_ack = no_ack
        self._clock: Clock = clock or SystemClock()
        self._stall_s = stall_s
        self._mailbox = Mailbox()
        self._pace = Pace()
        self._stopping = threading.Event()
        self._paused = False
        self._held = 0
        self._epoch = 0
        self._outstanding: set[tuple[int, object]] = set()
        self._carry: list[Settlement] = []
        self._busy_since: float | None = None
        self._tick_at: float | None = None
        self._chores_at = 0.0
        self._silent_since = 0.0
        self._told_limit = 0
        self._source: Source | None = None
        self._source_queues: tuple[QueueSpec, ...] = ()
        self.stats = ConsumerStats()

    # ---- from any thread

    def settle(self, items: Sequence[Settlement]) -> None:
        """Leave settlements for the owner, who makes one exchange of all that have come."""
        if self._source is None:
            self.stats.stale += len(items)
        elif len(self._mailbox) + len(items) > 2 * len(self._outstanding) + _MAILBOX_SPARE:
            self.stats.refused += len(items)  # more than were handed out: somebody settles twice
        else:
            self._mailbox.post(items)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Run ``call`` on the owner thread, soon. What it raises ends ``run``."""
        self._mailbox.call(call)

    def set_prefetch(self, prefetch: int | Prefetch) -> None:
        """Hold this many deliveries from now on; those held already stay."""
        self._prefetch = _policy(prefetch)
        self.call_soon(_pass)

    def set_held(self, count: int) -> None:
        """Say how many of the unsettled deliveries wait for a time of their own (ETA) and do not count."""
        self._held = max(count, 0)
        self.call_soon(_pass)

    def add_queue(self, queue: QueueSpec) -> None:
        """Read one more queue."""
        self._queues[queue.name] = queue
        self.call_soon(self._apply_queues)

    def cancel_queue(self, name: str) -> None:
        """Stop reading a queue; what was delivered from it is settled as usual."""
        self._queues.pop(name, None)
        self.call_soon(self._apply_queues)

    def pause(self) -> None:
        """Take no more deliveries; settling goes on."""
        self._paused = True
        self.call_soon(self._apply_pause)

    def resume(self) -> None:
        """Take deliveries again."""
        self._paused = False
        self.call_soon(self._apply_pause)

    def stop(self) -> None:
        """Let ``run`` settle what is in the mailbox, give back the rest and return. Safe to call twice."""
        self._stopping.set()
        self._mailbox.wake()

    @property
    def queues(self) -> tuple[str, ...]:
        """Names of the queues that are read."""
        return tuple(self._queues)

    @property
    def outstanding(self) -> int:
        """Deliveries handed out and not settled."""
        return len(self._outstanding)

    @property
    def prefetch(self) -> int:
        """Most deliveries held just now, those of ``set_held`` not counted."""
        return self._prefetch.limit

    # ---- the owner

    def run(self) -> None:
        """Connect if need be and work until ``stop``; may be called again after it raised.

        Raises: BrokerUnavailable when the connection is lost or given up; every delivery that was
        not settled then comes again, and settling it under its old tag does nothing.
        """
        if self._stopping.is_set():
            return
        self._connection.connect()
        source = self._source = self._open()
        try:
            if self._paused:
                source.pause(True)
            while not self._stopping.is_set():
                self._turn(source)
            self._last_exchange(source)
        finally:
            self._source = None
            self._forget()
            with self._connection.closing():
                source.close()

    def _open(self) -> Source:
        self._epoch += 1
        now = self._clock.monotonic()
        self._chores_at = now
        self._silent_since = self.stats.last_progress_at = now
        self._tick_at = now
        self._told_limit = 0
        self._source_queues = tuple(self._queues.values())
        return self._connection.open_source(self._source_queues, no_ack=self._no_ack, prefetch=self._prefetch.limit)

    def _forget(self) -> None:
        """Every tag of this connection is void from here on."""
        late = [*self._carry, *self._mailbox.take()]
        self._carry = []
        self._busy_since = None
        self._outstanding.clear()
        self.stats.stale += len(late)
        if late:
            self._on_stale(late)

    def _turn(self, source: Source) -> None:
        """Settle, fetch, hand out, tick; sleep when there was nothing to do."""
        with self._connection.translated():
            self._chores(source)
            self._run_calls()
            self._tell_limit(source)
            settlements = self._collect()
            batch = self._exchange(source, settlements)
        if batch is None:
            return
        now = self._clock.monotonic()
        if settlements:
            self._took(settlements, now)
        if batch:
            self._hand_out(batch, now)
        self._prefetch.observe(len(settlements) or (len(batch) if self._no_ack else 0), self._room() <= 0, now)
        self._tick(now)
        if batch or settlements:
            self._linger()
        else:
            self._sleep(source)

    def _exchange(self, source: Source, settlements: list[Settlement]) -> list[Delivery] | None:
        """Return what came; ``None`` when the broker was busy and it is to be tried again."""
        bare = [Settlement(each.tag[1], each.how) for each in settlements]
        try:
            batch = source.exchange(bare, self._room_to_fetch())
        except BrokerBusy:
            now = self._clock.monotonic()
            self._carry = settlements
            self.stats.busy += 1
            self._busy_since = now if self._busy_since is None else self._busy_since
            if now - self._busy_since > _BUSY_LIMIT_S:
                raise
            self._stopping.wait(_BUSY_PAUSE_S)
            return None
        self._busy_since = None
        self.stats.exchanges += 1
        return batch

    def _collect(self) -> list[Settlement]:
        """Take the mailbox; drop what is not held any more."""
        taken, self._carry = self._carry, []
        stale: list[Settlement] = []
        for each in self._mailbox.take():
            try:
                self._outstanding.remove(each.tag)
            except KeyError:
                stale.append(each)
            else:
                taken.append(each)
        if stale:
            self.stats.stale += len(stale)
            self._on_stale(stale)
        return taken

    def _took(self, settlements: list[Settlement], now: float) -> None:
        self.stats.settled += len(settlements)
        self.stats.last_progress_at = now
        self._pace.note(len(settlements), now)
        self._on_settled(settlements)

    def _hand_out(self, batch: list[Delivery], now: float) -> None:
        epoch = self._epoch
        for delivery in batch:
            delivery.tag = (epoch, delivery.tag)
        if not self._no_ack:
            self._outstanding.update([delivery.tag for delivery in batch])
        self.stats.delivered += len(batch)
        self.stats.last_progress_at = self._silent_since = now
        self._on_batch(batch)
        self._tick_at = now  # what came may be due sooner than anything before

    def _room(self) -> int:
        """How many more deliveries may be held."""
        return self._prefetch.limit + self._held - len(self._outstanding)

    def _room_to_fetch(self) -> int:
        """The same, but nothing while most of a large prefetch is still there: fetches have a price."""
        if self._paused or not self._queues:
            return 0
        if self._no_ack:
            return BATCH
        room = self._room()
        if room < BATCH and room * 4 < self._prefetch.limit > _LARGE_PREFETCH:
            return 0
        return max(0, min(room, BATCH))  # fewer than none after the prefetch has shrunk

    def _run_calls(self) -> None:
        while not self._stopping.is_set() and (call := self._mailbox.next_call()) is not None:
            call()

    def _apply_queues(self) -> None:
        wanted = tuple(self._queues.values())
        if self._source is not None and wanted != self._source_queues:
            self._source.set_queues(wanted)
            self._source_queues = wanted

    def _apply_pause(self) -> None:
        if self._source is not None:
            self._source.pause(self._paused)

    def _chores(self, source: Source) -> None:
        now = self._clock.monotonic()
        if now < self._chores_at:
            return
        self._chores_at = now + source.keepalive()
        if source.watchable:
            self._watch(source, now)

    def _tell_limit(self, source: Source) -> None:
        limit = self._prefetch.limit + self._held
        if limit != self._told_limit:
            source.limit(limit)
            self._told_limit = limit

    def _watch(self, source: Source, now: float) -> None:
        """Give the connection up when messages wait, there is room, and still none comes."""
        if self._paused or not self._queues or self._room() <= 0:
            self._silent_since = now
        elif now - self._silent_since >= self._stall_s:
            if source.probe():
                self.stats.rebuilds += 1
                raise BrokerStalled(
                    f"broker {self._connection.sanitised_url}: messages wait and none arrived for "
                    f"{now - self._silent_since:.0f} s; the connection is made anew"
                )
            self._silent_since = now

    def _tick(self, now: float) -> None:
        if self._tick_at is None or now >= self._tick_at:
            wait_s = self._on_tick()
            self._tick_at = None if wait_s is None else self._clock.monotonic() + max(wait_s, 0.0)

    def _linger(self) -> None:
        worth = self._pace.worth(
            held=len(self._outstanding), waiting=len(self._mailbox), limit=self._prefetch.limit, most=BATCH
        )
        if worth:
            self._mailbox.wait((), LINGER_S, worth, self._stopping.is_set)

    def _sleep(self, source: Source) -> None:
        until = self._chores_at if self._tick_at is None else min(self._chores_at, self._tick_at)
        timeout_s = min(until - self._clock.monotonic(), _LONGEST_SLEEP_S)
        descriptors: list[int] = []
        if self._room_to_fetch() > 0:  # without room, arrivals must not wake us again and again
            timeout_s = min(timeout_s, source.poll_s)
            descriptors = source.filenos()
        if self._mailbox.wait(descriptors, timeout_s, 1, self._stopping.is_set):
            source.woken()

    def _last_exchange(self, source: Source) -> None:
        with self._connection.translated():
            settlements = self._collect()
            if settlements:
                source.exchange([Settlement(each.tag[1], each.how) for each in settlements], 0)
        if settlements:
            self._took(settlements, self._clock.monotonic())


def _policy(prefetch: int | Prefetch) -> Prefetch:
    return Fixed(prefetch) if isinstance(prefetch, int) else prefetch


def _pass() -> None:
    """Do nothing but be a reason to wake up."""


__all__ = ["BATCH", "Adaptive", "Consumer", "ConsumerStats", "Fixed"]
