"""The thread that listens to all children and to the fork server, and keeps the clocks.

It sleeps without a time-out while nothing is due. When a child has several tiny jobs in its inbox,
its stream is muted and read once a millisecond instead: a wake-up for each of thousands of jobs a
second would cost more than the jobs.
"""

from __future__ import annotations

import logging
import math
import os
import select
import threading
from collections.abc import Callable
from typing import Final

from opsq.clock import Clock
from opsq.core.pools.base import PoolConfig
from opsq.core.pools.prefork_floor import Floor, Turn
from opsq.core.pools.prefork_frames import Died, Forked, ForkFailed, Loaded, LoadFailed, Notice
from opsq.core.pools.prefork_pace import Respawn
from opsq.core.pools.prefork_slot import Slot
from opsq.core.pools.prefork_spawn import ForkServerLink

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

_KILL_AHEAD_S: Final = 0.3
"""So long before the deadline of ``stop`` the patience ends."""


class Loop:
    """The pool's one thread. ``run`` is its body; everything else is called by it or under the lock."""

    def __init__(self, config: PoolConfig, floor: Floor, connect: Callable[[], ForkServerLink]) -> None:
        self.target = config.slots
        self.stop_at = math.inf
        self.up = threading.Event()
        self.wakes_at = -math.inf
        self.load_seconds: float | None = None
        self._children = Respawn(config.slots)
        self._servers = Respawn(1, first_s=0.5, cap_s=30.0)
        self._config = config
        self._clock: Clock = config.clock
        self._floor = floor
        self._connect = connect
        self._link: ForkServerLink | None = None
        self._poll = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake_fd, select.EPOLLIN)
        self._listening: dict[int, Slot] = {}
        self._muted: dict[int, Slot] = {}
        self._patrol_at = -math.inf
        self._closed = False

    def wake(self) -> None:
        """Have the loop look at everything again. Thread: any; under the lock."""
        if not self._closed:
            os.eventfd_write(self._wake_fd, 1)

    def deliver(self, turn: Turn) -> None:
        """Tell the worker what ``turn`` holds and keep its promises. Thread: any, without the lock."""
        while turn.started or turn.filled or turn.outcomes:
            started, turn.started = turn.started, []
            for key, pid, at in started:
                self._call(self._config.on_started, key, pid, at)
            if turn.filled:
                filled = turn.filled
                with self._floor.lock:
                    self._floor.flush(turn)
                    self._floor.dispatch(turn)
                    due = min(slot.next_timer() for slot in filled)
                    if self._floor.stalled:
                        due = min(due, self._clock.monotonic() + _STALLED_S)
                    if due < self.wakes_at:
                        self.wake()
            outcomes, turn.outcomes = turn.outcomes, []
            if outcomes:
                self._call(self._config.on_outcomes, outcomes)

    def run(self) -> None:
        """Body of the thread; returns when the pool has stopped."""
        try:
            while not self._ended():
                self._round()
        except BaseException as exc:  # boundary: the end of a thread; without its loop the pool must not look alive
            self._floor.failure = f"its loop broke: {exc!r}"
            log.critical("the prefork pool's loop broke; its children are ended", exc_info=True)
        finally:
            self._shut()

    def _round(self) -> None:
        now = self._clock.monotonic()
        turn = Turn()
        with self._floor.lock:
            self._keep_strength(now)
            self.wakes_at = self._next_due(now)
        timeout_s = self.wakes_at - now
        events = self._poll.poll(None if timeout_s == math.inf else max(0.0, timeout_s))
        now = self._clock.monotonic()
        with self._floor.lock:
            self.wakes_at = -math.inf  # awake: nobody has to wake it
            self._floor.stalled = False
            self._hear(events, turn)
            self._look_after_muted(now, turn)
            for slot in list(self._floor.slots.values()):
                if slot.next_timer() <= now:
                    self._time_is_up(slot, now, turn)
            self._patrol(now, turn)
            self._floor.dispatch(turn)
        self.deliver(turn)

    def _hear(self, events: list[tuple[int, int]], turn: Turn) -> None:
        for fd, _ in events:
            if fd == self._wake_fd:
                os.eventfd_read(fd)
            elif self._link is not None and fd == self._link.fileno():
                self._notice(self._link.next_notice(), turn)
            else:
                slot = self._listening.get(fd)
                if slot is not None:
                    self._listen(slot, turn)

    def _listen(self, slot: Slot, turn: Turn) -> None:
        if self._floor.read(slot, turn):
            self._children.worked()
            self._servers.worked()
        self._floor.rest(slot, turn)
        if slot.ready:
            self.up.set()
        if self._floor.failure and not self.up.is_set():
            self.up.set()
        if slot.hung_up:
            self._forget(slot)
            slot.kill_at = self._clock.monotonic() + _HUNG_UP_S
            return
        deep = len(slot.jobs) > 1
        if deep != (slot.up_fd in self._muted):
            self._mute(slot, deep)

    def _mute(self, slot: Slot, deep: bool) -> None:
        self._poll.modify(slot.up_fd, 0 if deep else select.EPOLLIN)
        if deep:
            self._muted[slot.up_fd] = slot
        else:
            del self._muted[slot.up_fd]

    def _look_after_muted(self, now: float, turn: Turn) -> None:
        for slot in list(self._muted.values()):
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

    def _time_is_up(self, slot: Slot, now: float, turn: Turn) -> None:
        self._floor.read(slot, turn)
        if slot.kill_at <= now:
            slot.kill_at = math.inf
            slot.signal(9)
        if slot.hard_at <= now:
            self._reclaim(slot, now)
            if slot.jobs:
                slot.condemn("hard_limit")
                return
        if slot.soft_at <= now:
            self._floor.counts["soft_limit"] += 1
            slot.warn(now)
        self._floor.rest(slot, turn)

    def _notice(self, notice: Notice | None, turn: Turn) -> None:
        floor = self._floor
        if notice is None:
            self._server_gone(turn)
        elif isinstance(notice, Loaded):
            self.load_seconds = notice.seconds
        elif isinstance(notice, LoadFailed):
            floor.fail("the fork server could not load the app: " + notice.text)
        elif isinstance(notice, Forked):
            slot = floor.slots[notice.number]
            slot.forked(notice.pid)
            self._listening[slot.up_fd] = slot
            self._poll.register(slot.up_fd, select.EPOLLIN)
        elif isinstance(notice, ForkFailed):
            self._pause(self._children, "no further child process could be made: " + notice.text)
            floor.slots.pop(notice.number).close()
        elif isinstance(notice, Died):
            self._bury(floor.slots[notice.number], notice.code, turn)

    def _bury(self, slot: Slot, code: int | None, turn: Turn) -> None:
        self._forget(slot)
        pid, jobs = slot.pid, len(slot.jobs)
        if self._floor.bury(slot, code, turn):
            self._pause(self._children, f"child process {pid} died (code {code}) with {jobs} jobs")

    def _pause(self, respawn: Respawn, what: str) -> None:
        wait_s = respawn.died(self._clock.monotonic())
        log.warning("%s; replaced %s", what, f"in {wait_s:.1f} s" if wait_s else "at once")

    def _server_gone(self, turn: Turn) -> None:
        """Bury every child, since the kernel has killed them all, and prepare to start anew."""
        assert self._link is not None
        self._poll.unregister(self._link.fileno())
        code = self._link.end(0.5)
        self._link, self.load_seconds = None, None
        slots = list(self._floor.slots.values())
        for slot in slots:
            slot.signal(9)
        for slot in slots:
            slot.wait_dead(0.5)
            self._forget(slot)
            self._floor.bury(slot, None, turn)
        if self.stop_at == math.inf and self._floor.serving:
            self._pause(self._servers, f"the fork server ended (code {code})")
        if self._floor.failure:
            self.up.set()

    def _forget(self, slot: Slot) -> None:
        fd = slot.up_fd
        if self._listening.pop(fd, None) is not None:
            self._poll.unregister(fd)
        self._muted.pop(fd, None)

    def _next_due(self, now: float) -> float:
        if self._muted:
            return now + _TICK_S
        due = min((slot.next_timer() for slot in self._floor.slots.values()), default=math.inf)
        due = min(due, max(self._patrol_at, now))
        if self._floor.stalled:
            due = min(due, now + _STALLED_S)
        if self.stop_at != math.inf:
            return min(due, max(self.stop_at - _KILL_AHEAD_S, now + 0.01))
        if self._missing() > 0 and not self._floor.closed:
            again_at = (self._servers if self._link is None else self._children).not_before()
            due = min(due, again_at if again_at > now else math.inf)
        return due

    @staticmethod
    def _counts(slot: Slot) -> bool:
        return not (slot.leaving or slot.verdict or slot.suspect)

    def _missing(self) -> int:
        return self.target - sum(
            not (slot.leaving or slot.verdict or slot.suspect) for slot in self._floor.slots.values()
        )

    def _keep_strength(self, now: float) -> None:
        """Fork what is missing, dismiss what is too much; on the way out, end everybody."""
        if self.stop_at != math.inf:
            self._end_children(now)
            return
        if self._floor.closed or (self._link is None and not self._start_server(now)):
            return
        if now < self._children.not_before():
            return
        missing = self._missing()
        while missing > 0 and self.load_seconds is not None and self._fork():
            missing -= 1
        for slot in self._surplus(-missing) if missing < 0 else ():
            self._floor.retire(slot)

    def _start_server(self, now: float) -> bool:
        if now < self._servers.not_before() or (self._floor.failure and not self._floor.serving):
            return False
        try:
            self._link = self._connect()
        except OSError as exc:
            self._pause(self._servers, f"the fork server could not be started: {exc}")
            return False
        self._poll.register(self._link.fileno(), select.EPOLLIN)
        return True

    def _surplus(self, n: int) -> list[Slot]:
        """Choose ``n`` slots to end: those without a job first."""
        candidates = [slot for slot in self._floor.slots.values() if slot.pid and self._counts(slot)]
        return sorted(candidates, key=lambda slot: (len(slot.jobs), -slot.number))[:n]

    def _fork(self) -> bool:
        assert self._link is not None
        try:
            slot = self._floor.new_slot()
        except OSError as exc:
            self._pause(self._children, f"no sockets for a further child process: {exc}")
            return False
        try:
            self._link.request_fork(slot.number, slot.down_far, slot.up_far)
        except OSError:
            self._floor.slots.pop(slot.number).close()
            return False  # the fork server is gone; its notice is on the way
        return True

    def _end_children(self, now: float) -> None:
        for slot in self._floor.slots.values():
            if not slot.leaving_on_purpose:
                self._floor.retire(slot)
            if now >= self.stop_at - _KILL_AHEAD_S and not slot.verdict:
                slot.condemn("given_up")

    def _ended(self) -> bool:
        if self.stop_at == math.inf:
            return False
        return self._link is None or not self._floor.slots or self._clock.monotonic() > self.stop_at

    def _shut(self) -> None:
        with self._floor.lock:
            self._closed = True
            for slot in self._floor.slots.values():
                slot.signal(9)
                slot.close()
            self._floor.slots.clear()
            self._floor.idle.clear()
            self._floor.quiet.notify_all()
        if self._link is not None:
            self._link.end(max(0.2, self.stop_at - self._clock.monotonic()) if self.stop_at != math.inf else 0.2)
            self._link = None
        self._poll.close()
        os.close(self._wake_fd)
        self.up.set()

    def _call(self, tell: Callable[..., None], *args: object) -> None:
        try:
            tell(*args)
        except Exception:  # boundary: a failing listener must not stop the children from being served
            log.exception("the worker's callback raised")
