"""The thread that listens to all children and to the fork server, and keeps the clocks.

It sleeps while nothing is due. When a child has several tiny jobs in its inbox, its stream is muted
and read once a millisecond instead: a wake-up for each of thousands of jobs a second would cost
more than the jobs.
"""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable
from typing import Final

from opsq.clock import Clock
from opsq.core.pools.base import PoolConfig
from opsq.core.pools.prefork_ears import Ears
from opsq.core.pools.prefork_floor import Floor, Turn
from opsq.core.pools.prefork_slot import Slot
from opsq.core.pools.prefork_staff import Staff

log = logging.getLogger(__name__)

_TICK_S: Final = 0.001
_STUCK_S: Final = 0.02
"""A child with a full inbox that reports nothing for so long has its inbox taken back."""

_HUNG_UP_S: Final = 1.0
"""A child that has closed its sockets has this long to end by itself."""

_PATROL_S: Final = 5.0
"""So often the children are looked at, and so long a silent one has to answer a ping."""

_STALLED_S: Final = 0.1
"""When a job could not be sent for want of descriptors or memory, it is tried again after this."""


class Loop:
    """The pool's one thread. ``run`` is its body; everything else is called by it or as it says."""

    def __init__(self, config: PoolConfig, floor: Floor, ears: Ears, staff: Staff) -> None:
        self._config = config
        self._clock: Clock = config.clock
        self._floor = floor
        self._ears = ears
        self._staff = staff
        self._wakes_at = -math.inf
        self._patrol_at = -math.inf

    def deliver(self, turn: Turn) -> None:
        """Tell the worker what ``turn`` holds and keep its promises. Thread: any, without the lock."""
        while turn.started or turn.filled or turn.warned or turn.outcomes:
            started, turn.started = turn.started, []
            for key, pid, at in started:
                self._call(self._config.on_started, key, pid, at)
            if turn.filled:
                self._keep_promises(turn)
            warned, turn.warned = turn.warned, []
            for key, after_s in warned:
                if self._config.on_soft_limit is not None:
                    self._call(self._config.on_soft_limit, key, after_s)
            outcomes, turn.outcomes = turn.outcomes, []
            if outcomes:
                self._call(self._config.on_outcomes, outcomes)

    def run(self) -> None:
        """Body of the thread; returns when the pool has stopped."""
        try:
            while not self._staff.ended():
                self._round()
        except BaseException as exc:  # boundary: the end of a thread; without its loop the pool must not look alive
            self._floor.failure = f"its loop broke: {exc!r}"
            log.critical("the prefork pool's loop broke; its children are ended", exc_info=True)
        finally:
            with self._floor.lock:
                self._staff.disband()
                self._ears.close()
                self._floor.quiet.notify_all()

    def _keep_promises(self, turn: Turn) -> None:
        filled = turn.filled
        with self._floor.lock:
            self._floor.flush(turn)
            self._floor.dispatch(turn)
            due = min(slot.next_timer() for slot in filled)
            if self._floor.stalled:
                due = min(due, self._clock.monotonic() + _STALLED_S)
            if due < self._wakes_at:
                self._ears.wake()

    def _round(self) -> None:
        now = self._clock.monotonic()
        turn = Turn()
        with self._floor.lock:
            self._staff.keep_strength(now)
            self._wakes_at = self._next_due(now)
        heard = self._ears.wait(self._wakes_at - now)
        now = self._clock.monotonic()
        with self._floor.lock:
            self._wakes_at = -math.inf  # awake: nobody has to wake it
            self._floor.stalled = False
            for fd in heard:
                if self._staff.has_voice(fd):
                    self._staff.hear(turn)
                elif fd in self._ears.slots:
                    self._listen(self._ears.slots[fd], turn)
            self._look_after_muted(now, turn)
            for slot in list(self._floor.slots.values()):
                if slot.next_timer() <= now:
                    self._time_is_up(slot, now, turn)
            self._patrol(now, turn)
            self._floor.dispatch(turn)
        self.deliver(turn)

    def _listen(self, slot: Slot, turn: Turn) -> None:
        if self._floor.read(slot, turn):
            self._staff.worked()
        self._floor.rest(slot, turn)
        if slot.ready or self._floor.failure:
            self._staff.up.set()
        if slot.hung_up:
            self._ears.forget(slot)
            slot.kill_at = self._clock.monotonic() + _HUNG_UP_S
        else:
            self._ears.mute(slot, len(slot.jobs) > 1)

    def _look_after_muted(self, now: float, turn: Turn) -> None:
        for slot in list(self._ears.muted.values()):
            self._listen(slot, turn)
            if len(slot.jobs) > 1 and now - slot.head_at > _STUCK_S:
                self._reclaim(slot, now)
                if slot.jobs and not slot.announced:
                    slot.announced = True
                    turn.started.append((slot.jobs[0].key, slot.pid, slot.head_since))
                self._floor.rest(slot, turn)

    def _reclaim(self, slot: Slot, now: float) -> None:
        """Take back what ``slot`` has not begun. When that is everything, it may be dead in all but name."""
        had = bool(slot.jobs)
        self._floor.take_back(slot)
        if had and not slot.jobs and slot.open:
            self._floor.counts["suspected"] += 1
            self._floor.unidle(slot)
            slot.doubt(now + _PATROL_S)

    def _patrol(self, now: float, turn: Turn) -> None:
        """Look for children that were given a job long ago and never took it."""
        if now < self._patrol_at:
            return
        self._patrol_at = now + _PATROL_S
        for slot in self._floor.slots.values():
            if slot.jobs and not slot.unsent and now - slot.head_at > _PATROL_S / 2:
                self._floor.read(slot, turn)
                self._reclaim(slot, now)
                self._floor.rest(slot, turn)

    def _time_is_up(self, slot: Slot, now: float, turn: Turn) -> None:
        self._floor.read(slot, turn)
        if slot.kill_at <= now:
            slot.kill_at = math.inf
            slot.signal(signal.SIGKILL)
        if slot.hard_at <= now:
            self._reclaim(slot, now)
            if slot.jobs:
                slot.condemn("hard_limit")
                return
        if slot.soft_at <= now and slot.warn(now):
            self._floor.counts["soft_limit"] += 1
            turn.warned.append((slot.jobs[0].key, now - slot.head_at))
        self._floor.rest(slot, turn)

    def _next_due(self, now: float) -> float:
        if self._ears.muted:
            return now + _TICK_S
        due = min(max(self._patrol_at, now), self._staff.next_due(now))
        for slot in self._floor.slots.values():
            due = min(due, slot.next_timer())
        return min(due, now + _STALLED_S) if self._floor.stalled else due

    def _call(self, tell: Callable[..., None], *args: object) -> None:
        try:
            tell(*args)
        except Exception:  # boundary: a failing listener must not stop the children from being served
            log.exception("the worker's callback raised")
