"""Take deliveries in, hold back what must wait, hand the rest to the pool.

Runs on the owner thread, between the broker and the slots; everything slow that a decision entails
(storing a REVOKED, say) is left to the clerk. A task with early acknowledgement goes to the pool
only after the broker took the acknowledgement, and only as many of them as there are slots: what is
acknowledged and waits for a slot would be lost in a crash.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from opsq.broker.message import Delivery, Settle, Settlement
from opsq.clock import Clock
from opsq.core.pools.base import Job, Pool
from opsq.core.request import Context
from opsq.core.worker.clerk import Clerk
from opsq.core.worker.emit import Emitter
from opsq.core.worker.event_records import received
from opsq.core.worker.hold import RATE_HELD_MAX, EtaHeap, RateGate
from opsq.core.worker.intake import Decision, Expired, Hold, Intake, Malformed, Revoked, Run, Unknown
from opsq.core.worker.ledger import Entry, Ledger
from opsq.core.worker.probes import Probe
from opsq.core.worker.put_off import Gone, PutOff
from opsq.signals import task_received

log = logging.getLogger(__name__)

SettleCall = Callable[[list[Settlement]], None]


class Receiver:
    """Everything between a delivery and its slot. Thread: the owner's.

    blame: asked about each redelivery; true when it is dealt with, because it has cost the worker its process.
    put_off: takes what need not be held here for its time; None where the broker cannot wait for one.
    """

    def __init__(
        self, intake: Intake, ledger: Ledger, pool: Pool, emitter: Emitter, clerk: Clerk, clock: Clock, probe: Probe
    ) -> None:
        self._intake = intake
        self._ledger = ledger
        self._pool = pool
        self._emitter = emitter
        self._clerk = clerk
        self._clock = clock
        self._probe = probe
        self._settle: SettleCall | None = None
        self._etas = EtaHeap()
        self._rates: dict[str, RateGate] = {}
        self._paused: frozenset[str] = frozenset()
        self._early: deque[Entry] = deque()
        self._early_out = 0
        self._far: list[Entry] = []
        self.blame: Callable[[Entry], bool] | None = None
        self.put_off: PutOff | None = None

    def attach(self, settle: SettleCall) -> None:
        """Use this connection's ``settle`` from now on."""
        self._settle = settle

    def held(self) -> int:
        """How many entries wait for their time or their rate, and so need no slot yet."""
        if not self._rates:
            return len(self._etas)
        return len(self._etas) + min(RATE_HELD_MAX, sum(len(gate) for gate in self._rates.values()))

    def waiting(self) -> dict[int, float | None]:
        """The keys that wait here, with their time, None for those that wait for their rate. Thread: any."""
        rated = [key for gate in tuple(self._rates.values()) for key in gate.waiting()]
        return {**self._etas.times(), **dict.fromkeys(rated)}

    def policy_changed(self, task: str) -> None:
        """Apply the new rate and limits of a task type to what has not begun, here or in the pool."""
        policy = self._intake.policy(task)
        if policy is None:
            return
        changed = []
        for entry in tuple(self._ledger.entries.values()):  # the clerk removes what was revoked meanwhile
            if entry.headers.task == task and entry.started_at is None:
                entry.policy = policy
                soft_s, hard_s = policy.limits(entry.headers)
                if (soft_s, hard_s) != (entry.job.soft_limit_s, entry.job.hard_limit_s):
                    entry.job = msgspec.structs.replace(entry.job, soft_limit_s=soft_s, hard_limit_s=hard_s)
                    changed.append(entry.job)
        if changed:
            self._pool.replace(changed)
        gate = self._rates.get(task)
        if gate is not None:
            gate.set_rate(policy.rate_per_s)
            self._tick_rates()

    def set_paused(self, tasks: frozenset[str]) -> None:
        """Hold back tasks of these types, those that have reached the pool excepted, and let all others go on."""
        for name in tasks - self._paused:
            if name not in self._rates:
                policy = self._intake.policy(name)
                self._rates[name] = RateGate(policy.rate_per_s if policy is not None else 0.0)
            self._rates[name].closed = True
        opened = self._paused - tasks
        for name in opened:
            self._rates[name].closed = False
        self._paused = tasks
        if opened:
            self._tick_rates()

    def on_batch(self, deliveries: list[Delivery]) -> None:
        """Decide each delivery and act on it."""
        now = self._clock.now()
        decide = self._intake.decide
        for delivery in deliveries:
            decision = decide(delivery, now)
            if type(decision) is Run:
                self._accept(delivery, decision, now, None)
            elif type(decision) is Hold:
                self._accept(delivery, decision, now, decision.until)
            else:
                self._refuse(delivery, decision)
        if self._far and self.put_off is not None:
            far, self._far = self._far, []
            self.put_off(far, self._put_off_confirmed)

    def on_tick(self) -> float | None:
        """Release what is due; seconds until the next time this is needed."""
        waits = []
        now = self._clock.now()
        for key in self._etas.due(now):
            entry = self._ledger.get(key)
            if entry is not None:
                self._release(entry)
        next_at = self._etas.next_at()
        if next_at is not None:
            waits.append(max(0.0, next_at - now))
        if self._rates:
            waits.extend(self._tick_rates())
        return min(waits, default=None)

    def disconnected(self) -> None:
        """Forget what waits, since the broker will deliver it again, and keep what runs."""
        self._settle = None
        self._early.clear()
        for entry in self._ledger.disconnected():
            self._unhold(entry)
            cancelled = self._pool.cancel(entry.key)
            if cancelled or entry.started_at is None:
                self._ledger.remove(entry.key)
            else:
                self._ledger.orphaned(entry)  # a slot took it this very moment
        entries = tuple(self._ledger.entries.values())  # the clerk removes what was revoked meanwhile
        self._early_out = sum(1 for entry in entries if not entry.late and entry.acked)

    def take_back(self) -> list[Entry]:
        """Stop holding anything; the entries that wait here and never reached the pool."""
        keys = self._etas.clear()
        for gate in self._rates.values():
            keys.extend(gate.clear())
        entries = [entry for key in keys if (entry := self._ledger.get(key)) is not None]
        entries.extend(self._early)
        self._early.clear()
        return entries

    def revoke(self, entry: Entry) -> bool:
        """Take back an entry that has not reached the pool; true when it was here."""
        if not self._unhold(entry):
            return False
        self._ledger.count("revoked")
        then = partial(self._forget, entry, Settle.ACK)
        self._clerk.refused(entry.headers, expired=False, then=then, message=entry.job)
        return True

    def early_finished(self) -> None:
        """Let the next early-ack entry through, because one has left its slot."""
        self._early_out -= 1
        self._let_early()

    def drop_early(self, entry: Entry) -> None:
        """Forget an early-ack entry whose acknowledgement the broker did not take."""
        if self._ledger.remove(entry.key) is not None:
            self.early_finished()

    def gone(self, entry: Entry) -> None:
        """Hold an entry no longer: the broker keeps it until its time."""
        self._unhold(entry)
        if self._ledger.remove(entry.key) is not None:
            self._ledger.count("put_off")

    def submit_early(self, entry: Entry) -> None:
        """Give a slot to an early-ack entry, now that the broker took its acknowledgement."""
        entry.acked = True
        self._pool.submit(entry.job)

    def run_again(self, entry: Entry) -> None:
        """Give the delivery of an ended ``entry`` to a slot once more, under a key of its own."""
        ledger = self._ledger
        key = ledger.next_key()
        info = {**entry.job.delivery_info, "redelivered": True}
        job = msgspec.structs.replace(entry.job, key=key, delivery_info=info)
        again = Entry(
            key, job, entry.headers, entry.policy, entry.tag, entry.generation, True, entry.queue, self._clock.now()
        )
        ledger.add(again)
        if again.policy.send_events:
            self._emitter.emit_record(received(again, self._emitter.sender))
        if self._probe is not None:
            self._probe("received", entry.headers.id, None)
        self._pool.submit(job)

    def _accept(self, delivery: Delivery, decision: Run | Hold, now: float, until: float | None) -> None:
        headers, policy, ledger = decision.headers, decision.policy, self._ledger
        if ledger.has_orphans and self._known_orphan(delivery, headers.id, headers.retries):
            return
        key = ledger.next_key()
        soft_s, hard_s = policy.limits(headers)
        info = {
            "exchange": delivery.exchange,
            "routing_key": delivery.routing_key,
            "priority": delivery.priority,
            "redelivered": delivery.redelivered,
        }
        job = Job(
            key, headers.id, headers.task, delivery.headers, delivery.body, delivery.content_type or "",
            delivery.content_encoding or "", delivery.properties, info, soft_s, hard_s, now,
        )  # fmt: skip
        entry = Entry(key, job, headers, policy, delivery.tag, ledger.generation, policy.acks_late, delivery.queue, now)
        ledger.add(entry)
        if policy.send_events:
            self._emitter.emit_record(received(entry, self._emitter.sender))
        if task_received.receivers:
            task_received.send(sender=headers.task, request=Context(id=headers.id, task=headers.task))
        if self._probe is not None:
            self._probe("received", headers.id, None)
        if delivery.redelivered and self.blame is not None and self.blame(entry):
            return
        if until is not None:
            self._etas.push(until, key)
            if self.put_off is not None and until - now > self.put_off.after_s:
                self._far.append(entry)
        else:
            self._release(entry)

    def _release(self, entry: Entry) -> None:
        """Pass the rate gate, if there is one, and then the early-ack gate."""
        policy = entry.policy
        if policy.rate_per_s > 0 or self._paused:
            gate = self._rates.get(policy.task)
            if gate is None:
                gate = self._rates[policy.task] = RateGate(policy.rate_per_s)
            if not gate.take(entry.key, self._clock.monotonic()):
                return
        self._dispatch(entry)

    def _dispatch(self, entry: Entry) -> None:
        if entry.late:
            self._pool.submit(entry.job)
        else:
            self._early.append(entry)
            self._let_early()

    def _let_early(self) -> None:
        settlements = []
        while self._early and self._early_out < self._pool.slots:
            entry = self._early.popleft()
            self._early_out += 1
            settlements.append(Settlement(entry.tag, Settle.ACK, EarlyAck(entry)))
        if settlements and self._settle is not None:
            self._settle(settlements)

    def _tick_rates(self) -> list[float]:
        now, waits = self._clock.monotonic(), []
        for gate in self._rates.values():
            for key in gate.due(now):
                entry = self._ledger.get(key)
                if entry is not None:
                    self._dispatch(entry)
            wait_s = gate.wait_s(now)
            if wait_s is not None:
                waits.append(wait_s)
        return waits

    def _unhold(self, entry: Entry) -> bool:
        if self._etas.discard(entry.key):
            return True
        if entry in self._early:
            self._early.remove(entry)
            return True
        gate = self._rates.get(entry.policy.task)
        return gate is not None and gate.discard(entry.key)

    def _known_orphan(self, delivery: Delivery, task_id: str, retries: int) -> bool:
        """Settle or adopt a redelivery of what this worker has run, or runs, already."""
        if self._ledger.adopt(task_id, retries, delivery.tag):
            return True
        if self._ledger.already_ran(task_id, retries):
            self._ledger.count("redelivered_after_run")
            self._settle_tag(delivery.tag, Settle.ACK, self._ledger.generation)
            return True
        return False

    def _refuse(self, delivery: Delivery, decision: Decision) -> None:
        tag, generation = delivery.tag, self._ledger.generation
        if isinstance(decision, Malformed):
            self._ledger.count(decision.kind)
            self._clerk.malformed(delivery, decision, then=partial(self._settle_as, tag, generation))
        elif isinstance(decision, Unknown):
            self._ledger.count("unknown")
            self._clerk.unknown(delivery, decision.headers, then=partial(self._settle_as, tag, generation))
        elif isinstance(decision, (Expired, Revoked)):
            expired = isinstance(decision, Expired)
            self._ledger.count("expired" if expired else "revoked")
            ack = partial(self._settle_tag, tag, Settle.ACK, generation)
            self._clerk.refused(decision.headers, expired=expired, then=ack, message=delivery)

    def _put_off_confirmed(self, entries: list[Entry]) -> None:
        """Acknowledge what the broker has as delayed messages now. Thread: any."""
        settle = self._settle  # read before the generation: tags of another connection mean other messages
        here = [entry for entry in entries if entry.generation == self._ledger.generation]
        if settle is not None and here:
            settle([Settlement(entry.tag, Settle.ACK, Gone(entry)) for entry in here])

    def _settle_tag(self, tag: Any, how: Settle, generation: int) -> None:
        """Settle unless the connection that ``tag`` came on is gone. Thread: any."""
        if self._settle is not None and generation == self._ledger.generation:
            self._settle([Settlement(tag, how)])

    def _settle_as(self, tag: Any, generation: int, how: Settle) -> None:
        self._settle_tag(tag, how, generation)

    def _forget(self, entry: Entry, how: Settle) -> None:
        self._ledger.remove(entry.key)
        self._settle_tag(entry.tag, how, entry.generation)


class EarlyAck:
    """The note on an early acknowledgement: whom to run once the broker took it."""

    __slots__ = ("entry",)

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
