"""Queues that are bound to fanout exchanges: pub/sub, on a connection of their own.

Such messages are stored nowhere; one that is not settled is lost with its process. A subscriber has
an output buffer of its own kind in Redis, so it must not share the connection that takes batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.redis.envelope import unpack
from opsq.broker.redis.wire import Wire, pack

PING_S = 5.0
RECEIVE_BYTES = 4 * 1024 * 1024


class Fanout:
    """Thread: that of the wire. keep: whether deliveries must be settled, so that they can be given back."""

    def __init__(self, wire: Wire, *, keep: bool) -> None:
        self._wire = wire
        # Redis cuts a subscriber off that leaves too much unread; what the kernel holds does not count as unread.
        wire.widen(RECEIVE_BYTES)
        self._keep = keep
        self._queues: dict[str, tuple[str, ...]] = {}
        self._ready: deque[Delivery] = deque()
        self._held: dict[int, Delivery] = {}
        self._next = 1
        self._ping_at = 0.0

    def fileno(self) -> int:
        """Return the descriptor that is readable when a message has come."""
        return self._wire.fileno()

    def subscribe(self, patterns: Mapping[str, Sequence[str]]) -> None:
        """Listen to exactly these patterns; each feeds the queues it maps to."""
        wanted = {pattern: tuple(queues) for pattern, queues in patterns.items()}
        for pattern in self._queues.keys() - wanted.keys():
            self._confirmed("PUNSUBSCRIBE", pattern)
        for pattern in wanted.keys() - self._queues.keys():
            self._confirmed("PSUBSCRIBE", pattern)
        self._queues = wanted

    def _confirmed(self, command: str, pattern: str) -> None:
        # The answer to a subscription is a push; the reply to the ping after it says that it has come.
        self._wire.send(pack(command, pattern))
        self._wire.call("PING")

    def take(self, room: int) -> list[Delivery]:
        """Return up to ``room`` messages that have come."""
        if len(self._ready) < room:
            self._wire.read_pushes(room)
            while self._wire.pushes:
                self._note(self._wire.pushes.popleft())
        taken = [self._ready.popleft() for _ in range(min(room, len(self._ready)))]
        if self._keep:
            self._held.update((each.tag, each) for each in taken)
        return taken

    def untake(self, deliveries: Sequence[Delivery]) -> None:
        """Keep these for the next ``take``: they were not handed out after all."""
        self._ready.extendleft(reversed(deliveries))
        for each in deliveries:
            self._held.pop(each.tag, None)

    def _note(self, push: list[bytes]) -> None:
        if push[0] != b"pmessage":
            return
        _, pattern, _, text = push
        for queue in self._queues.get(pattern.decode(), ()):
            delivery = unpack(text)
            delivery.queue = queue
            delivery.tag = self._next
            self._next += 1
            self._ready.append(delivery)

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Forget messages; one that is given back is delivered again, here."""
        for each in settlements:
            delivery = self._held.pop(each.tag, None)
            if delivery is not None and each.how is Settle.REQUEUE:
                delivery.redelivered = True
                delivery.deliveries = (delivery.deliveries or 1) + 1
                self._ready.appendleft(delivery)

    def keepalive(self, now: float) -> None:
        """Make sure the connection is there: nothing else would notice that it is silent for ever."""
        if now >= self._ping_at:
            self._wire.call("PING")
            self._ping_at = now + PING_S

    def close(self) -> None:
        """Stop listening. Safe to call twice."""
        self._wire.close()
