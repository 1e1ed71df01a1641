"""As many children as there should be: start the fork server, fork, replace, dismiss, bury.

Thread: the loop's, under the pool's lock.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable
from typing import Final

from opsq.clock import Clock
from opsq.core.pools.prefork_ears import Ears
from opsq.core.pools.prefork_floor import Floor, Turn
from opsq.core.pools.prefork_pace import Respawn
from opsq.core.pools.prefork_records import Died, Forked, ForkFailed, Loaded, LoadFailed
from opsq.core.pools.prefork_slot import Slot
from opsq.core.pools.prefork_spawn import ForkServerLink

log = logging.getLogger(__name__)

_KILL_AHEAD_S: Final = 0.3
"""So long before the deadline of ``stop`` the patience ends."""

_SERVER_END_S: Final = 0.5


class Staff:
    """The children of a pool and the process that makes them.

    target: how many there should be. stop_at: when all have to be gone, monotonic seconds. up: set
    when the first child takes jobs, or when it is known that none will. load_seconds: what the
    import of the app took; None while it is not done.
    """

    def __init__(
        self, target: int, floor: Floor, ears: Ears, clock: Clock, connect: Callable[[], ForkServerLink]
    ) -> None:
        self.target = target
        self.stop_at = math.inf
        self.up = threading.Event()
        self.load_seconds: float | None = None
        self._floor = floor
        self._ears = ears
        self._clock = clock
        self._connect = connect
        self._link: ForkServerLink | None = None
        self._children = Respawn(target)
        self._servers = Respawn(1, first_s=0.5, cap_s=30.0)

    def keep_strength(self, now: float) -> None:
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

    def next_due(self, now: float) -> float:
        """When ``keep_strength`` has something to do that nobody will announce."""
        if self.stop_at != math.inf:
            return max(self.stop_at - _KILL_AHEAD_S, now + 0.01)
        if self._floor.closed or self._missing() <= 0:
            return math.inf
        again_at = (self._servers if self._link is None else self._children).not_before()
        return again_at if again_at > now else math.inf

    def worked(self) -> None:
        """Note that jobs come back: whatever died before, it was not everybody."""
        self._children.worked()
        self._servers.worked()

    def has_voice(self, fd: int) -> bool:
        """Whether ``fd`` is the fork server's."""
        return self._link is not None and fd == self._link.fileno()

    def hear(self, turn: Turn) -> None:
        """Take in one notice of the fork server."""
        assert self._link is not None
        floor, notice = self._floor, self._link.next_notice()
        if notice is None:
            self._server_gone(turn)
        elif isinstance(notice, Loaded):
            self.load_seconds = notice.seconds
        elif isinstance(notice, LoadFailed):
            floor.fail("the fork server could not load the app: " + notice.text)
        elif isinstance(notice, Forked):
            floor.slots[notice.number].forked(notice.pid)
            self._ears.add(floor.slots[notice.number])
        elif isinstance(notice, ForkFailed):
            self._pause(self._children, "no further child process could be made: " + notice.text)
            floor.slots.pop(notice.number).close()
        elif isinstance(notice, Died):
            self._bury(floor.slots[notice.number], notice.code, turn)

    def ended(self) -> bool:
        """Whether, after ``stop_at`` was set, nothing is left to wait for."""
        if self.stop_at == math.inf:
            return False
        return self._link is None or not self._floor.slots or self._clock.monotonic() > self.stop_at

    def disband(self) -> None:
        """Kill whoever is left and end the fork server. Harmless twice."""
        for slot in self._floor.slots.values():
            self._ears.forget(slot)
            slot.signal(signal.SIGKILL)
            slot.close()
        self._floor.slots.clear()
        self._floor.idle.clear()
        if self._link is not None:
            left_s = self.stop_at - self._clock.monotonic()
            self._link.end(max(0.2, left_s) if self.stop_at != math.inf else 0.2)
            self._link = None
        self.up.set()

    def _bury(self, slot: Slot, code: int, turn: Turn) -> None:
        self._ears.forget(slot)
        pid, jobs = slot.pid, len(slot.jobs)
        if self._floor.bury(slot, code, turn):
            self._pause(self._children, f"child process {pid} died (code {code}) with {jobs} jobs")

    def _server_gone(self, turn: Turn) -> None:
        """Bury every child, since the kernel has killed them all, and prepare to start anew."""
        assert self._link is not None
        self._ears.unwatch(self._link.fileno())
        code = self._link.end(_SERVER_END_S)
        self._link, self.load_seconds = None, None
        slots = list(self._floor.slots.values())
        for slot in slots:
            slot.signal(signal.SIGKILL)
        for slot in slots:
            slot.wait_dead(_SERVER_END_S)
            self._ears.forget(slot)
            self._floor.bury(slot, None, turn)
        if self.stop_at == math.inf and self._floor.serving:
            self._pause(self._servers, f"the fork server ended (code {code})")
        if self._floor.failure:
            self.up.set()

    def _pause(self, respawn: Respawn, what: str) -> None:
        wait_s = respawn.died(self._clock.monotonic())
        log.warning("%s; replaced %s", what, f"in {wait_s:.1f} s" if wait_s else "at once")

    def _start_server(self, now: float) -> bool:
        if now < self._servers.not_before() or (self._floor.failure and not self._floor.serving):
            return False
        try:
            self._link = self._connect()
        except OSError as exc:
            self._pause(self._servers, f"the fork server could not be started: {exc}")
            return False
        self._ears.watch(self._link.fileno())
        return True

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

    def _missing(self) -> int:
        return self.target - sum(map(_counts, self._floor.slots.values()))

    def _surplus(self, n: int) -> list[Slot]:
        """Choose ``n`` slots to end: those without a job first."""
        candidates = [slot for slot in self._floor.slots.values() if slot.pid and _counts(slot)]
        return sorted(candidates, key=lambda slot: (len(slot.jobs), -slot.number))[:n]

    def _end_children(self, now: float) -> None:
        for slot in self._floor.slots.values():
            if not slot.leaving_on_purpose:
                self._floor.retire(slot)
            if now >= self.stop_at - _KILL_AHEAD_S and not slot.verdict:
                slot.condemn("given_up")


def _counts(slot: Slot) -> bool:
    """Whether a slot is one of those that should be there."""
    return not (slot.leaving or slot.verdict or slot.suspect)
