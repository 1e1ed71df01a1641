"""From a slot's outcome to the broker's acknowledgement to the last event of the attempt.

The order never varies: the slot has stored the result and published what follows before its outcome
arrives here; then the broker is told; and what was settled is announced only after the broker took
it. A crash between any two of these repeats work, it never loses or hides any.

The usual outcome goes straight from the slot's thread to the consumer's mailbox, which wakes the
owner only when that is worth it. Outcomes that need thought (the connection they came on is gone,
the slot died, the message was acknowledged early) wait in a mailbox of their own for the owner.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from opsq.broker.message import Settle, Settlement
from opsq.clock import Clock
from opsq.core.pools.base import Outcome
from opsq.core.worker.clerk import AGAIN, Clerk
from opsq.core.worker.emit import Emitter
from opsq.core.worker.endings import ending_events
from opsq.core.worker.event_records import started, succeeded
from opsq.core.worker.ledger import Entry, Ledger
from opsq.core.worker.probes import Probe
from opsq.core.worker.put_off import Gone
from opsq.core.worker.receive import EarlyAck, Receiver
from opsq.core.worker.success_log import SuccessLog
from opsq.core.worker.survivor import Survivor

log = logging.getLogger(__name__)

HOW = {settle.value: settle for settle in Settle}
UNFIT = frozenset({"MALFORMED", "UNKNOWN"})
"""States of a message that a slot could not run, and that the clerk sets aside."""


class OwnerDoor(Protocol):
    """What settling needs of the consumer."""

    def settle(self, items: Sequence[Settlement]) -> None:
        """Tell the broker, soon."""
        ...

    def call_soon(self, call: Callable[[], None]) -> None:
        """Run ``call`` on the owner thread."""
        ...


class Settler:
    """Outcomes in, settlements and events out. Thread: named at each method.

    survivor: notes what runs, for pools whose tasks can take the worker with them.
    """

    def __init__(
        self, ledger: Ledger, emitter: Emitter, clerk: Clerk, clock: Clock, pool_name: str, probe: Probe
    ) -> None:
        self._ledger = ledger
        self._emitter = emitter
        self._clerk = clerk
        self._clock = clock
        self._pool_name = pool_name
        self._probe = probe
        self._receiver: Receiver | None = None
        self._door: OwnerDoor | None = None
        self.successes = SuccessLog(clock)
        self._by_owner: deque[Outcome] = deque()
        self._dealt_with: deque[Outcome] = deque()
        self._winding_down = False
        self.survivor: Survivor | None = None

    def attach(self, door: OwnerDoor, receiver: Receiver) -> None:
        """Settle through this connection from now on. Thread: the owner's."""
        self._door, self._receiver = door, receiver
        door.call_soon(self.drain)

    def detach(self) -> None:
        """Finish what the lost connection may or may not have settled. Thread: the owner's."""
        self._door = None
        for entry in self._ledger.settling():
            if entry.outcome is not None:
                self._without_broker(entry, entry.outcome)

    def on_started(self, key: int, pid: int, at: float) -> None:
        """Note and announce that a slot took a job. Thread: any."""
        entry = self._ledger.get(key)
        if entry is None:
            return
        entry.started_at, entry.pid = at, pid
        if self.survivor is not None:
            self.survivor.begin(key, entry.headers.id)
        if entry.policy.send_events:
            self._emitter.emit_record(started(entry, at, self._pool_name, self._emitter.sender))
        if self._probe is not None:
            self._probe("started", entry.headers.id, pid)

    def on_soft_limit(self, key: int, after_s: float) -> None:
        """Say that a job was told of its soft limit, which a call into C may keep from it. Thread: any."""
        entry = self._ledger.get(key)
        if entry is None:
            return
        self._ledger.count("soft_limits")
        log.warning(
            "the soft time limit has passed",
            extra={"task_id": entry.headers.id, "task": entry.headers.task, "limit_s": entry.job.soft_limit_s,
                   "after_s": round(after_s, 3)},
        )  # fmt: skip
        if self._probe is not None:
            self._probe("soft limit", entry.headers.id, after_s)

    def on_outcomes(self, outcomes: list[Outcome]) -> None:
        """Settle what slots have finished. Thread: any."""
        ledger, door = self._ledger, self._door
        get, generation = ledger.entries.get, ledger.generation
        settlements: list[Settlement] = []
        for outcome in outcomes:
            if self.survivor is not None:
                self.survivor.end(outcome.key)
            entry = get(outcome.key)
            if entry is None:
                ledger.count("outcomes_of_given_up")
            elif (
                outcome.cause or entry.acked or entry.generation != generation or door is None or outcome.state in UNFIT
            ):
                self._leave_to_owner(outcome)
            else:
                entry.outcome = outcome
                settlements.append(Settlement(entry.tag, HOW[outcome.settle], (entry, outcome)))
        if settlements and door is not None:
            door.settle(settlements)
            if ledger.generation != generation or self._door is not door:
                # The connection went away meanwhile, and with it these; finishing twice is harmless. Its door
                # goes first: ``detach`` may have looked for outcomes before these were noted.
                for settlement in settlements:
                    self._leave_to_owner(settlement.note[1])  # type: ignore[index]  # made above

    def drain(self) -> None:
        """Deal with the outcomes that were left to the owner. Thread: the owner's."""
        by_owner, dealt_with = self._by_owner, self._dealt_with
        while by_owner:
            outcome = by_owner.popleft()
            entry = self._ledger.get(outcome.key)
            if entry is not None and (outcome.cause or outcome.state in UNFIT):
                entry.ended = True
                self._clerk.ended_by_pool(entry, outcome, then=self._come_back)
            elif entry is not None:
                self._settle_one(entry, outcome)
        while dealt_with:
            outcome = dealt_with.popleft()
            entry = self._ledger.get(outcome.key)
            if entry is not None:
                self._settle_one(entry, outcome)

    def on_settled(self, settlements: list[Settlement]) -> None:
        """Finish what the broker took. Thread: the owner's."""
        now = self._clock.now()
        for settlement in settlements:
            note = settlement.note
            if type(note) is tuple:
                self._finish(note[0], note[1], now)
            elif type(note) is EarlyAck and self._receiver is not None:
                self._receiver.submit_early(note.entry)
            elif type(note) is Gone and self._receiver is not None:
                self._receiver.gone(note.entry)

    def on_stale(self, settlements: list[Settlement]) -> None:
        """Finish what the broker will deliver, or has delivered, again. Thread: the owner's."""
        for settlement in settlements:
            note = settlement.note
            if type(note) is tuple:
                self._without_broker(note[0], note[1])
            elif type(note) is EarlyAck and self._receiver is not None:
                self._receiver.drop_early(note.entry)
            elif type(note) is Gone:
                # Its delayed copy is on its way; the original, which comes again as well, need not run.
                self._ledger.orphan_finished(note.entry)

    def give_back(self, entries: list[Entry]) -> None:
        """Return entries that will not end here: to the broker, or by publishing them again.

        From now on nothing is run a second time either.

        Thread: the owner's, right after ``drain``, so that what has an outcome is known.
        """
        self._winding_down = True
        settlements = []
        for entry in entries:
            if entry.ended or entry.outcome is not None or self._ledger.remove(entry.key) is None:
                continue
            self._ledger.count("given_back")
            if not entry.acked:
                if entry.generation == self._ledger.generation:
                    settlements.append(Settlement(entry.tag, Settle.REQUEUE))
            elif entry.started_at is None:
                self._clerk.publish_again(entry)
            else:
                self._clerk.lost_in_shutdown(entry)
        if settlements and self._door is not None:
            self._door.settle(settlements)

    def _leave_to_owner(self, outcome: Outcome) -> None:
        self._by_owner.append(outcome)
        door = self._door
        if door is not None:
            door.call_soon(self.drain)

    def _come_back(self, outcome: Outcome) -> None:
        """Settle what the clerk has dealt with. Thread: the clerk's."""
        self._dealt_with.append(outcome)
        door = self._door
        if door is not None:
            door.call_soon(self.drain)

    def _settle_one(self, entry: Entry, outcome: Outcome) -> None:
        if outcome.settle == AGAIN:
            here = entry.generation == self._ledger.generation and self._door is not None
            if here and self._receiver is not None and not self._winding_down:
                self._finish(entry, outcome, None)
                self._receiver.run_again(entry)
                return
            # Its connection is gone and the broker delivers it again, or this worker takes nothing more.
            outcome = msgspec.structs.replace(outcome, settle="requeue")
        if entry.acked or entry.generation != self._ledger.generation or self._door is None:
            self._without_broker(entry, outcome)
        else:
            entry.outcome = outcome
            self._door.settle([Settlement(entry.tag, HOW[outcome.settle], (entry, outcome))])

    def _without_broker(self, entry: Entry, outcome: Outcome) -> None:
        """Finish a run that has no acknowledgement to give: early, or on a connection that is gone."""
        if not entry.acked and not entry.finished and outcome.settle != "requeue":
            self._ledger.orphan_finished(entry)
        self._finish(entry, outcome, None)

    def _finish(self, entry: Entry, outcome: Outcome, acked_at: float | None) -> None:
        ledger = self._ledger
        if entry.finished:
            return
        entry.finished = True
        ledger.remove(entry.key)
        ledger.count(outcome.state)
        if ledger.watch is not None:
            ledger.watch.finished(entry, outcome)
        if not entry.late and self._receiver is not None:
            self._receiver.early_finished()
        if outcome.state == "SUCCESS":
            self.successes.note(entry, outcome)
        if entry.policy.send_events:
            self._announce(entry, outcome, acked_at)
        if self._probe is not None:
            self._probe("settled", entry.headers.id, outcome)

    def _announce(self, entry: Entry, outcome: Outcome, acked_at: float | None) -> None:
        emitter, now = self._emitter, self._clock.now() if acked_at is None else acked_at
        if outcome.state == "SUCCESS":
            emitter.emit_record(succeeded(entry, outcome, acked_at, now, self._pool_name, emitter.sender))
            return
        for kind, fields in ending_events(entry, outcome, acked_at, now, self._pool_name):
            emitter.emit(kind, fields)
