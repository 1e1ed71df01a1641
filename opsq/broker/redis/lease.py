"""One consumer's hold on messages: taking them, settling them, renewing, giving them back.

What it took is in kombu's ``unacked`` and ``unacked_index``, as if a stock consumer had taken it, and
in the consumer's own lease beside them. The lease ends when the process dies or is silent too long;
then everything it held goes back at once, and from that moment it can settle nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct

from opsq.broker.message import Delivery
from opsq.broker.redis.envelope import unpack_batch
from opsq.broker.redis.keys import Keys
from opsq.broker.redis.restore import Restorer
from opsq.broker.redis.scripts import BATCH_BYTES, DRAIN, EXCHANGE, RENEW, Scripts
from opsq.broker.redis.wire import Wire
from opsq.broker.sqlite.process import ProcessId

# Lua passes this many values to a command at most, with room to spare.
_DONE_PER_CALL = 1_000


class Owner(Struct, frozen=True):
    """Whose a lease is. process: as its host knows it. client, name: of its connection in CLIENT LIST."""

    process: ProcessId
    client: int
    name: str


class Taken(Struct, frozen=True):
    """deliveries: what came. empty: all lists were seen empty, and the server will tell of changes."""

    deliveries: list[Delivery]
    empty: bool


class Lists(Struct, frozen=True):
    """The lists of some queues in the order they are to be emptied. queues: the name for each list."""

    keys: tuple[str, ...]
    queues: tuple[str, ...]
    labels: tuple[str, ...]


def lists_of(keys: Keys, queues: Sequence[str]) -> Lists:
    """Return the lists of these queues: all of the first priority step, then of the next."""
    names = tuple(name for _ in keys.steps for name in queues)
    labels = tuple(msgspec.json.encode(name).decode() for name in names)
    return Lists(tuple(keys.lists(queues)), names, labels)


class Lease:
    """seconds: how long it holds without ``renew``. Thread: that of the wire.

    Raises: LeaseLost from ``take`` and ``renew`` when the lease has been ended by somebody.
    """

    def __init__(
        self, wire: Wire, scripts: Scripts, keys: Keys, restorer: Restorer, *, process: ProcessId, seconds: float
    ) -> None:
        self._wire = wire
        self._scripts = scripts
        self._keys = keys
        self._restorer = restorer
        self.seconds = seconds
        self.consumer = uuid4().hex
        self.refused = 0
        name = f"opsq:{self.consumer}"
        wire.call("CLIENT", "SETNAME", name)
        self._renew(msgspec.json.encode(Owner(process, wire.call("CLIENT", "ID"), name)))

    def take(self, done: Sequence[str], room: int, lists: Lists) -> Taken:
        """Forget the messages ``done``, then take up to ``room``, in one step."""
        while len(done) > _DONE_PER_CALL:
            self._exchange(done[:_DONE_PER_CALL], 0, lists)
            done = done[_DONE_PER_CALL:]
        return self._exchange(done, room, lists)

    def _exchange(self, done: Sequence[str], room: int, lists: Lists) -> Taken:
        keys = [self._keys.unacked, self._keys.unacked_index, self._keys.alive_until, self._keys.lease(self.consumer)]
        tags = msgspec.json.encode(done) if done else b""
        if room <= 0:
            lists = Lists((), (), ())
        answer: Any = self._scripts.run(
            EXCHANGE, [*keys, *lists.keys], self.consumer, tags, room, BATCH_BYTES, *lists.labels
        )
        self.refused += answer[0]
        return read_answer(answer, lists)

    def renew(self) -> int:
        """Hold on; return how many messages are held."""
        return self._renew(b"")

    def _renew(self, record: bytes) -> int:
        keys = [self._keys.unacked_index, self._keys.alive_until, self._keys.lease(self.consumer), self._keys.owners]
        held = self._scripts.run(RENEW, keys, self.consumer, self.seconds, record)
        return held if isinstance(held, int) else 0

    def give_back(self, tags: Sequence[str]) -> int:
        """Put messages back at the head of their queues; return how many were still held."""
        return self._restorer.from_lease(self.consumer, tags)

    def close(self) -> None:
        """Give back everything and end the lease."""
        give_back_all(self._wire, self._keys, self._restorer, self.consumer)


def give_back_all(wire: Wire, keys: Keys, restorer: Restorer, consumer: str) -> int:
    """Put back what a consumer held and remove its traces; return how many went back."""
    restored = 0
    lease = keys.lease(consumer)
    while tags := [tag.decode() for tag in wire.call("ZRANGE", lease, 0, 999)]:
        restored += restorer.from_lease(consumer, tags)
        wire.call("ZREM", lease, *tags)  # those that could not be read stay in unacked alone
    wire.calls([("HDEL", keys.owners, consumer), ("ZREM", keys.alive_until, consumer)])
    return restored


def drain(scripts: Scripts, room: int, lists: Lists) -> Taken:
    """Take up to ``room`` messages and forget them at once."""
    answer: Any = scripts.run(DRAIN, list(lists.keys), room, BATCH_BYTES)
    return read_answer(answer, lists)


def read_answer(answer: Any, lists: Lists) -> Taken:
    """Read what ``EXCHANGE`` and ``DRAIN`` answer."""
    _, counts, sizes, messages, more = answer
    deliveries = unpack_batch(messages, [int(size) for size in sizes.split(b",")]) if sizes else []
    at = 0
    for count, queue in zip(counts, lists.queues, strict=False):
        for delivery in deliveries[at : at + count]:
            delivery.queue = queue
        at += count
    return Taken(deliveries, not more)
