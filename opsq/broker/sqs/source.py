"""Deliveries from SQS: long polls on threads of their own, settled and renewed ten at a time.

What is held stays out of sight for ``lease_seconds`` and is renewed each third of that, so long tasks
run once and a dead worker's messages are back in seconds, whatever the queue's own time-out is.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

from opsq.broker.kombu_source import declare_queue
from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.polled import read_envelope
from opsq.broker.sqs.faults import told
from opsq.broker.sqs.poller import Poller
from opsq.broker.topology import QueueSpec
from opsq.broker.wake import Waker

log = logging.getLogger(__name__)

_NOTICE_S = 1.0


class SqsSource:
    """One consumer of SQS queues. Thread: the owner's; pollers leave messages in the inbox."""

    watchable = False
    poll_s = _NOTICE_S

    def __init__(
        self, transport: Any, channel: Any, queues: Sequence[QueueSpec], *, lease_s: float, wait_s: int, no_ack: bool
    ) -> None:
        self._name = transport.name
        self._channel = channel
        self._lease_s = max(1, math.ceil(lease_s))
        self._wait_s = wait_s
        self._no_ack = no_ack
        self._waker = Waker()
        self._lock = threading.Lock()
        self._inbox: deque[tuple[Poller, dict[str, Any], float]] = deque()
        self._room = 0
        self._turns: set[Poller] = set()
        self._paused = False
        self._closed = False
        self._error: BaseException | None = None
        self._pollers: dict[str, Poller] = {}
        self._private: list[str] = []
        self._held: dict[str, Poller] = {}
        self._renew_at = time.monotonic() + self._lease_s / 3
        self.set_queues(queues)

    # ---- pollers' threads

    def _wanted(self, poller: Poller) -> int:
        """How many messages this poller may ask for; at least one since there was room for anybody.

        Without that turn a queue that is never empty could fill what room there is each time, before the
        thread of a quiet one gets to ask at all.
        """
        with self._lock:
            turn = poller in self._turns
            self._turns.discard(poller)
            return 0 if self._paused or self._closed else max(self._room - len(self._inbox), int(turn))

    def _arrived(self, poller: Poller, messages: list[dict[str, Any]]) -> bool:
        now = time.monotonic()
        with self._lock:
            if self._paused or self._closed or self._pollers.get(poller.queue) is not poller:
                return False
            self._inbox.extend((poller, message, now) for message in messages)
        self._waker.wake()
        return True

    def _failed(self, exc: BaseException) -> None:
        self._error = exc
        self._waker.wake()

    # ---- the owner's

    def exchange(self, settlements: Sequence[Settlement], room: int) -> list[Delivery]:
        """Settle all, then hand out what the pollers brought."""
        with told(self._name):
            if self._error is not None:
                raise self._error
            if settlements:
                self._settle(settlements)
            with self._lock:
                taken = [self._inbox.popleft() for _ in range(min(max(room, 0), len(self._inbox)))]
                self._room = room - len(taken)
                if self._room > 0:
                    self._turns = set(self._pollers.values())
            if self._no_ack:
                self._forget(taken)
        if self._room > 0:
            for poller in self._pollers.values():
                poller.more()
        return [self._delivery(poller, message) for poller, message, _ in taken]

    def _settle(self, settlements: Sequence[Settlement]) -> None:
        groups: defaultdict[tuple[Poller, bool], list[str]] = defaultdict(list)
        for each in settlements:
            poller = self._held.pop(str(each.tag), None)
            if poller is None:
                continue
            gone = each.how is Settle.ACK or (each.how is Settle.REJECT and not self._has_dead_letters(poller))
            if gone or each.how is Settle.REQUEUE:  # else: SQS moves it to its dead-letter queue in time
                groups[poller, gone].append(str(each.tag))
        for (poller, gone), handles in groups.items():
            failed = poller.delete(handles) if gone else poller.show(handles)
            if failed:
                log.warning(
                    "SQS did not settle messages whose time-out had passed; they come again",
                    extra={"queue": poller.queue, "messages": failed},
                )

    def _has_dead_letters(self, poller: Poller) -> bool:
        return bool(self._channel._has_redrive_policy(poller.queue, poller.url))

    def _forget(self, taken: Sequence[tuple[Poller, dict[str, Any], float]]) -> None:
        groups: defaultdict[Poller, list[str]] = defaultdict(list)
        for poller, message, _ in taken:
            groups[poller].append(message["ReceiptHandle"])
        for poller, handles in groups.items():
            poller.delete(handles)

    def _delivery(self, poller: Poller, message: dict[str, Any]) -> Delivery:
        body = str(message.get("Body", ""))
        decode = self._channel._decode_python_message_body
        delivery = read_envelope(self._channel, poller.queue, body, decode)
        count = message.get("Attributes", {}).get("ApproximateReceiveCount", "1")
        delivery.tag = message["ReceiptHandle"]
        delivery.deliveries = int(count) if str(count).isdigit() else None
        delivery.redelivered = delivery.redelivered or (delivery.deliveries or 1) > 1
        if not self._no_ack:
            self._held[delivery.tag] = poller
        return delivery

    def filenos(self) -> list[int]:
        """Return what the pollers write to."""
        return [self._waker.fileno()]

    def woken(self) -> None:
        """Be ready to be woken again."""
        self._waker.drain()

    def keepalive(self) -> float:
        """Renew what is held; give back what waited here for a third of a lease and found no slot."""
        now = time.monotonic()
        if now >= self._renew_at:
            with told(self._name):
                self._give_back(now - self._lease_s / 3)
                self._renew()
            self._renew_at = now + self._lease_s / 3
        return min(_NOTICE_S, self._lease_s / 3)

    def _renew(self) -> None:
        groups: defaultdict[Poller, list[str]] = defaultdict(list)
        for handle, poller in self._held.items():
            groups[poller].append(handle)
        for poller, handles in groups.items():
            failed = poller.hide(handles)
            if failed:
                log.warning(
                    "SQS did not renew messages; it never does so for more than 12 hours, and they come again",
                    extra={"queue": poller.queue, "messages": failed},
                )

    def _give_back(self, before: float) -> None:
        groups: defaultdict[Poller, list[str]] = defaultdict(list)
        with self._lock:
            for poller, message, at in self._inbox:
                if at <= before or poller is not self._pollers.get(poller.queue):
                    groups[poller].append(message["ReceiptHandle"])
            back = {handle for handles in groups.values() for handle in handles}
            self._inbox = deque(each for each in self._inbox if each[1]["ReceiptHandle"] not in back)
        for poller, handles in groups.items():
            poller.show(handles)

    def limit(self, prefetch: int) -> None:
        """Do nothing: nobody pushes."""

    def set_queues(self, queues: Sequence[QueueSpec]) -> None:
        """Declare and read these queues, leave the others."""
        wanted = {spec.name: spec for spec in queues}
        with told(self._name):
            for name in [name for name in self._pollers if name not in wanted]:
                with self._lock:
                    left = self._pollers.pop(name)
                left.stop()
            for name, spec in wanted.items():
                if name not in self._pollers:
                    self._read(spec)
            self._give_back(float("-inf"))
        self._private = [spec.name for spec in queues if spec.auto_delete or spec.exclusive]

    def _read(self, spec: QueueSpec) -> None:
        declare_queue(self._channel, spec)
        poller = Poller(
            self._channel.sqs(queue=self._channel.canonical_queue_name(spec.name)),
            spec.name,
            self._channel._new_queue(spec.name),
            self._wanted,
            self._arrived,
            self._failed,
            wait_s=self._wait_s,
            lease_s=self._lease_s,
        )
        self._pollers[spec.name] = poller
        poller.start()

    def pause(self, paused: bool) -> None:
        """Give back what nobody was handed, or begin to ask again."""
        with self._lock:
            self._paused = paused
        if paused:
            with told(self._name):
                self._give_back(float("inf"))

    def probe(self) -> bool:
        """Never called: pollers that fail say so."""
        return False

    def close(self) -> None:
        """Stop asking and give back what is not settled."""
        if self._closed:
            return
        with self._lock:
            self._closed = True
        for poller in self._pollers.values():
            poller.stop()
        with told(self._name):
            self._give_back(float("inf"))
            self._settle([Settlement(tag, Settle.REQUEUE) for tag in list(self._held)])
            for name in self._private:
                self._channel.queue_delete(name)
        self._waker.close()
        self._channel.close()
