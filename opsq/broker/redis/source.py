"""Redis for opsq's consumer: batches, leases, and being told when something arrives.

Instead of a blocking pop, which would take a message without registering it, the server is asked to
tell when one of the lists changes (client tracking). The script that finds them empty reads their
keys, and reading is what arms it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from opsq.broker.faults import BrokerBusy
from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.redis.fanout import Fanout
from opsq.broker.redis.keys import Keys
from opsq.broker.redis.lease import Lease, Lists, drain, lists_of
from opsq.broker.redis.reaper import Reaper
from opsq.broker.redis.restore import Restorer
from opsq.broker.redis.routes import Routes
from opsq.broker.redis.scripts import Scripts
from opsq.broker.redis.wire import ReplyError, Wire
from opsq.broker.sqlite.process import this_process
from opsq.broker.topology import QueueSpec
from opsq.clock import Clock, SystemClock

log = logging.getLogger(__name__)

DEFAULT_LEASE_S = 30.0
REAP_S = 1.0
RENEW_S = 2.0
NET_S = 5.0
UNTOLD_POLL_S = 0.05
_MOST_PUSHES = 1_000
_LOOKS = 3


class SourceOptions(Struct, frozen=True, kw_only=True):
    """lease_s: see ``Lease``. visibility_s: kombu's ``visibility_timeout``."""

    lease_s: float = DEFAULT_LEASE_S
    visibility_s: float = 3600.0


class RedisSource:
    """One consumer. Thread: the owner's.

    channel: a kombu channel, which declares queues and knows what is bound to which fanout exchange.
    new_wire: opens a connection. no_ack: messages are forgotten as they are taken.
    """

    watchable = False

    def __init__(
        self,
        channel: Any,
        new_wire: Callable[[], Wire],
        queues: Sequence[QueueSpec],
        *,
        no_ack: bool,
        keys: Keys,
        options: SourceOptions,
        clock: Clock | None = None,
    ) -> None:
        self._channel = channel
        self._new_wire = new_wire
        self._no_ack = no_ack
        self._keys = keys
        self._options = options
        self._clock: Clock = clock or SystemClock()
        self._wire = new_wire()
        self._fanout: Fanout | None = None
        self._lists = Lists((), (), ())
        self._names: set[bytes] = set()
        self._stored: tuple[str, ...] = ()
        self._turn = 0
        self._quiet_until = 0.0
        self._renew_at = 0.0
        self._closed = False
        self._lease: Lease | None = None
        self._reaper: Reaper | None = None
        try:
            self._tracked = self._track()
            self._scripts = Scripts(self._wire)
            if not no_ack:
                self._register()
            self.set_queues(queues)
        except BaseException:
            self.close()
            raise

    @property
    def poll_s(self) -> float:
        """Longest sleep without another look."""
        return 1.0 if self._tracked else UNTOLD_POLL_S

    def _track(self) -> bool:
        answer = self._wire.ask("CLIENT", "TRACKING", "ON", "NOLOOP")
        if isinstance(answer, ReplyError):
            log.warning("redis cannot tell of arrivals, asking every 50 ms instead", extra={"error": str(answer)})
            return False
        return True

    def _register(self) -> None:
        routes = Routes(self._wire, self._keys, self._channel.state.exchanges)
        restorer = Restorer(self._wire, self._scripts, self._keys, routes)
        process = this_process()
        lease = Lease(self._wire, self._scripts, self._keys, restorer, process=process, seconds=self._options.lease_s)
        self._lease = lease
        self._reaper = Reaper(
            self._wire, self._scripts, self._keys, restorer, self._clock,
            me=lease.consumer, process=process, visibility_s=self._options.visibility_s,
        )  # fmt: skip
        self._renew_at = self._clock.monotonic() + self._renewal_s
        self._reaper.run()

    @property
    def _renewal_s(self) -> float:
        # A stock consumer may have a shorter visibility time-out than ours and sweep by it.
        return min(self._options.lease_s / 3, self._options.visibility_s / 3, RENEW_S)

    # ---- taking and settling

    def exchange(self, settlements: Sequence[Settlement], room: int) -> list[Delivery]:
        """Settle and take in one round trip; none when there is nothing to settle and no news."""
        done = self._settled(settlements) if settlements else []
        batch = self._fanout.take(room) if self._fanout is not None and room > 0 else []
        room -= len(batch)
        if not done and (room <= 0 or self._is_quiet()):
            return batch
        try:
            return batch + self._taken(done, room)
        except BrokerBusy:
            if self._fanout is not None:
                self._fanout.untake(batch)  # the same call is made again
            raise

    def _taken(self, done: Sequence[str], room: int) -> list[Delivery]:
        for _ in range(_LOOKS):
            taken, quiet = self._take(done, room)
            if taken or quiet or room <= 0:
                return taken
            done = []  # something came between the look and its end
        return []

    def _settled(self, settlements: Sequence[Settlement]) -> list[str]:
        """Do what is not a plain acknowledgement; return the tags that the script is to forget."""
        local = [each for each in settlements if isinstance(each.tag, int)]
        if local and self._fanout is not None:
            self._fanout.settle(local)
        back = [each.tag for each in settlements if each.how is Settle.REQUEUE and isinstance(each.tag, str)]
        if back and self._lease is not None:
            self._lease.give_back(back)
            self._quiet_until = 0.0  # our own doing is not told to us
        return [each.tag for each in settlements if each.how is not Settle.REQUEUE and isinstance(each.tag, str)]

    def _take(self, done: Sequence[str], room: int) -> tuple[list[Delivery], bool]:
        lists = self._turned()
        if self._lease is not None:
            taken = self._lease.take(done, room, lists)
        elif lists.keys:
            taken = drain(self._scripts, room, lists)
        else:
            return [], True
        self._wire.pushes.clear()  # of before the look
        if room <= 0:
            return taken.deliveries, True
        self._quiet_until = self._clock.monotonic() + NET_S if taken.empty and self._tracked else 0.0
        if self._wire.pending:
            self._hear()
        return taken.deliveries, taken.empty and (self._quiet_until > 0 or not self._tracked)

    def _turned(self) -> Lists:
        """Begin with another queue each time, within each priority."""
        count = len(self._stored)
        if count > 1:
            self._turn = (self._turn + 1) % count
            names = self._stored[self._turn :] + self._stored[: self._turn]
            return lists_of(self._keys, names)
        return self._lists

    def _is_quiet(self) -> bool:
        return not self._lists.keys or self._clock.monotonic() < self._quiet_until

    def _hear(self) -> None:
        """Read what the server has told; a list of ours that changed ends the quiet."""
        self._wire.read_pushes(_MOST_PUSHES)
        for push in self._wire.pushes:
            if push[0] == b"invalidate" and (push[1] is None or not self._names.isdisjoint(push[1])):
                self._quiet_until = 0.0
        self._wire.pushes.clear()

    def filenos(self) -> list[int]:
        """Return the connections."""
        return [self._wire.fileno()] + ([self._fanout.fileno()] if self._fanout is not None else [])

    def woken(self) -> None:
        """Read the news, before the look that answers it."""
        self._hear()

    # ---- chores

    def keepalive(self) -> float:
        """Renew the lease, bring back what the dead held, keep expiring queues."""
        now = self._clock.monotonic()
        try:
            self._do_chores(now)
        except BrokerBusy as exc:  # the lease lasts for some more of these
            log.warning("chores are put off", extra={"error": str(exc)})
        if self._wire.pending or self._wire.pushes:
            self._hear()
        return min(REAP_S, self._renewal_s)

    def _do_chores(self, now: float) -> None:
        if self._lease is not None and now >= self._renew_at:
            self._lease.renew()
            self._renew_at = now + self._renewal_s
        if self._reaper is not None and self._reaper.run():
            self._quiet_until = 0.0
        if self._lease is None and now >= self._renew_at:
            self._wire.call("PING")
            self._renew_at = now + RENEW_S
        if self._fanout is not None:
            self._fanout.keepalive(now)
        self._channel.keep_queues(self._wire, now)

    def limit(self, prefetch: int) -> None:
        """Do nothing: the consumer asks for no more than it has room for."""

    def set_queues(self, queues: Sequence[QueueSpec]) -> None:
        """Declare and take from these queues."""
        fanout: dict[str, list[str]] = {}
        stored = []
        for spec in queues:
            self._declare(spec)
            bindings = self._channel.fanout_bindings(spec)
            for exchange, routing_key in bindings:
                fanout.setdefault(self._keys.pattern(exchange, routing_key), []).append(spec.name)
            if not bindings or len(bindings) < len(spec.all_bindings()):
                stored.append(spec.name)
        self._listen(fanout)
        self._stored = tuple(stored)
        self._lists = lists_of(self._keys, stored)
        self._names = {name.encode() for name in self._lists.keys}
        self._quiet_until = 0.0

    def _declare(self, spec: QueueSpec) -> None:
        """Declare a queue; full memory must not keep anybody from emptying it."""
        try:
            self._channel.declare(spec)
        except BrokerBusy as exc:
            log.warning("queue could not be declared, reading it all the same", extra={"error": str(exc)})

    def _listen(self, patterns: dict[str, list[str]]) -> None:
        if patterns and self._fanout is None:
            self._fanout = Fanout(self._new_wire(), keep=not self._no_ack)
        if self._fanout is not None:
            self._fanout.subscribe(patterns)

    def pause(self, paused: bool) -> None:
        """Do nothing: the consumer does not ask while it is paused."""

    def probe(self) -> bool:
        """Say whether anything waits."""
        return bool(self._lists.keys) and bool(self._wire.call("EXISTS", *self._lists.keys))

    def close(self) -> None:
        """Give back what is not settled, unless the connection is gone. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._lease is not None and not self._wire.broken:
                self._lease.close()
        finally:
            self._wire.close()
            if self._fanout is not None:
                self._fanout.close()
