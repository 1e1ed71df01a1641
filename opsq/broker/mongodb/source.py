"""Deliveries from MongoDB: taken one by one, held by a mark in the document.

kombu deletes a message as it takes it, so with a killed worker it is gone. Here a taken document moves
to a queue name that nobody reads, with who holds it and until when; settling deletes it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from opsq.broker.faults import LeaseLost
from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.mongodb.server_clock import ServerClock
from opsq.broker.polled import PolledSource, read_envelope
from opsq.broker.topology import QueueSpec

HELD = "opsq held: "
"""Before the name of the queue that a held message came from."""
_REAP_S = 1.0
_TAKE_S = 0.02  # a round trip each: what has come must not wait for the rest


class MongoSource(PolledSource):
    """One consumer of a MongoDB broker. lease_s: how long a silent consumer keeps what it holds.

    Thread: the owner's. The broker's clock decides, so clients may disagree about the time.
    """

    def __init__(self, transport: Any, channel: Any, queues: Sequence[QueueSpec], lease_s: float, no_ack: bool) -> None:
        self._name = transport.name
        self._clock = ServerClock(channel.client)
        self._messages = channel.messages
        self._lease_s = lease_s
        self._no_ack = no_ack
        self._holder = uuid4().hex
        self._held: dict[Any, str] = {}
        self._renew_at = 0.0
        self._clock.look()
        super().__init__(channel, queues)

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
        self.ask_again(soon=bool(taken or settlements))
        return taken

    def _take(self, queue: str) -> Delivery | None:
        mark = {"queue": HELD + queue, "opsq_holder": self._holder, "opsq_until": self._clock.now() + self._lease_s}
        order = [("priority", 1), ("_id", 1)]
        if self._no_ack:
            found = self._messages.find_one_and_delete({"queue": queue}, sort=order)
        else:
            change = {"$set": mark, "$inc": {"opsq_taken": 1}}
            found = self._messages.find_one_and_update({"queue": queue}, change, sort=order, return_document=True)
        if found is None:
            return None
        delivery = read_envelope(self._channel, queue, str(found.get("payload", "")))
        delivery.tag = found["_id"]
        delivery.deliveries = int(found.get("opsq_taken") or 1)
        delivery.redelivered = delivery.redelivered or delivery.deliveries > 1
        if not self._no_ack:
            self._held[delivery.tag] = queue
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

    def keepalive(self) -> float:
        """Renew what is held, and put back what others held too long."""
        now = time.monotonic()
        if now >= self._renew_at:
            self._clock.look()
            if self._held:
                until = {"$set": {"opsq_until": self._clock.now() + self._lease_s}}
                kept = self._messages.update_many({"opsq_holder": self._holder}, until).matched_count
                if kept < len(self._held):
                    raise self._lost()
            self._channel.keep_queues(self._queues, self._clock.now())
            self._renew_at = now + self._lease_s / 3
        for over in self._messages.find({"opsq_until": {"$lt": self._clock.now()}}, ["queue", "opsq_until"]).limit(500):
            which = {"_id": over["_id"], "opsq_until": over["opsq_until"]}
            self._release(which, str(over["queue"]).removeprefix(HELD))
        return min(_REAP_S, self._lease_s / 3)

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"broker {self._name}: this process was silent for longer than its lease; "
            "its messages went back to the queue"
        )

    def _give_back(self) -> None:
        held, self._held = self._held, {}
        for tag, queue in held.items():
            self._release({"_id": tag, "opsq_holder": self._holder}, queue)
