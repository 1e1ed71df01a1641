"""Deliveries from MongoDB: taken one by one, held by a mark in the document.

kombu deletes a message as it takes it, so with a killed worker it is gone. Here a taken document moves
to a queue name that nobody reads, with who holds it and until when; settling deletes it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from opsq.broker.faults import LeaseLost
from opsq.broker.kombu_source import RawMessage, declare_queue, from_virtual
from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.topology import QueueSpec

POLL_FIRST_S = 0.02
POLL_MAX_S = 0.25
HELD = "opsq held: "
"""Before the name of the queue that a held message came from."""
_REAP_S = 1.0
_TAKE_S = 0.02  # a round trip each: what has come must not wait for the rest
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 the server answers in UTC without saying so


class MongoSource:
    """One consumer of a MongoDB broker. lease_s: how long a silent consumer keeps what it holds.

    Thread: the owner's. The broker's clock decides, so clients may disagree about the time.
    """

    watchable = False

    def __init__(self, transport: Any, channel: Any, queues: Sequence[QueueSpec], lease_s: float, no_ack: bool) -> None:
        self._name = transport.name
        self._channel = channel
        self._messages = channel.messages
        self._lease_s = lease_s
        self._no_ack = no_ack
        self._holder = uuid4().hex
        self._held: dict[Any, str] = {}
        self._queues: list[str] = []
        self._private: list[str] = []
        self._renew_at = 0.0
        self._closed = False
        self._ahead_s = 0.0
        self._look_at_the_clock()
        self.poll_s = POLL_FIRST_S
        self.set_queues(queues)

    def _look_at_the_clock(self) -> None:
        server = self._channel.client.command("hello")["localTime"]
        self._ahead_s = (server.replace(tzinfo=None) - _EPOCH).total_seconds() - time.time()

    def _now(self) -> float:
        return time.time() + self._ahead_s

    def exchange(self, settlements: Sequence[Settlement], room: int) -> list[Delivery]:
        """Settle, then take from each queue in turn until ``room`` is used up, all are empty or it takes long."""
        if settlements:
            self._settle(settlements)
        taken: list[Delivery] = []
        waiting = list(self._queues)
        until = time.monotonic() + _TAKE_S
        while waiting and len(taken) < room and time.monotonic() < until:
            for queue in list(waiting):
                delivery = self._take(queue) if len(taken) < room else None
                if delivery is None:
                    waiting.remove(queue)
                else:
                    taken.append(delivery)
        self.poll_s = POLL_FIRST_S if taken or settlements else min(self.poll_s * 1.5, POLL_MAX_S)
        return taken

    def _take(self, queue: str) -> Delivery | None:
        mark = {"queue": HELD + queue, "opsq_holder": self._holder, "opsq_until": self._now() + self._lease_s}
        order = [("priority", 1), ("_id", 1)]
        if self._no_ack:
            found = self._messages.find_one_and_delete({"queue": queue}, sort=order)
        else:
            change = {"$set": mark, "$inc": {"opsq_taken": 1}}
            found = self._messages.find_one_and_update({"queue": queue}, change, sort=order, return_document=True)
        if found is None:
            return None
        delivery = self._delivery(queue, str(found.get("payload", "")))
        delivery.tag = found["_id"]
        delivery.deliveries = int(found.get("opsq_taken") or 1)
        delivery.redelivered = delivery.redelivered or delivery.deliveries > 1
        if not self._no_ack:
            self._held[delivery.tag] = queue
        return delivery

    def _delivery(self, queue: str, text: str) -> Delivery:
        try:
            delivery = from_virtual(RawMessage(json.loads(text), channel=self._channel), queue)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            # Not kombu's envelope: handed on as it is, for intake to refuse with all there is to see.
            delivery = Delivery(text.encode(), None, None, {}, {}, "", queue, 0)
        delivery.queue = queue
        return delivery

    def _settle(self, settlements: Sequence[Settlement]) -> None:
        held = {each.tag: self._held.pop(each.tag) for each in settlements if each.tag in self._held}
        done = [each.tag for each in settlements if each.tag in held and each.how is not Settle.REQUEUE]
        gone = self._messages.delete_many({"_id": {"$in": done}, "opsq_holder": self._holder}).deleted_count
        for tag in held.keys() - set(done):
            gone += self._release({"_id": tag, "opsq_holder": self._holder}, held[tag])
        if gone != len(held):
            raise self._lost()

    def _release(self, which: dict[str, Any], queue: str) -> int:
        change = {"$set": {"queue": queue}, "$unset": {"opsq_holder": "", "opsq_until": ""}}
        return int(self._messages.update_one(which, change).matched_count)

    def filenos(self) -> list[int]:
        """Return nothing: nobody tells of arrivals."""
        return []

    def woken(self) -> None:
        """Never called."""

    def keepalive(self) -> float:
        """Renew what is held, and put back what others held too long."""
        now = time.monotonic()
        if now >= self._renew_at:
            self._look_at_the_clock()
            if self._held:
                until = {"$set": {"opsq_until": self._now() + self._lease_s}}
                kept = self._messages.update_many({"opsq_holder": self._holder}, until).matched_count
                if kept < len(self._held):
                    raise self._lost()
            self._channel.keep_queues(self._queues, self._now())
            self._renew_at = now + self._lease_s / 3
        for over in self._messages.find({"opsq_until": {"$lt": self._now()}}, ["queue", "opsq_until"]).limit(500):
            which = {"_id": over["_id"], "opsq_until": over["opsq_until"]}
            self._release(which, str(over["queue"]).removeprefix(HELD))
        return min(_REAP_S, self._lease_s / 3)

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"broker {self._name}: this process was silent for longer than its lease; "
            "its messages went back to the queue"
        )

    def limit(self, prefetch: int) -> None:
        """Do nothing: nobody pushes."""

    def set_queues(self, queues: Sequence[QueueSpec]) -> None:
        """Declare and read these queues."""
        for spec in queues:
            if spec.name not in self._queues:
                declare_queue(self._channel, spec)
        self._queues = [spec.name for spec in queues]
        self._private = [spec.name for spec in queues if spec.auto_delete or spec.exclusive]

    def pause(self, paused: bool) -> None:
        """Do nothing: nobody pushes."""

    def probe(self) -> bool:
        """Never called: this source asks, so it cannot miss anything."""
        return False

    def close(self) -> None:
        """Give back what is not settled, and delete the queues that go with their reader."""
        if self._closed:
            return
        self._closed = True
        held, self._held = self._held, {}
        for tag, queue in held.items():
            self._release({"_id": tag, "opsq_holder": self._holder}, queue)
        for name in self._private:
            self._channel.queue_delete(name)
        self._channel.close()
