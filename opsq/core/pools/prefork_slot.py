"""One child as the worker sees it: its sockets, the jobs it has, and how to stop it.

Thread: guarded by the pool's lock, every method.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Iterable

from opsq.core.pools.base import Job
from opsq.core.pools.prefork_frames import (
    INLINE_MAX_BYTES,
    PING_PACKET,
    NowIO,
    discard_packet,
    job_packet,
    packet_pair,
    split_frames,
    try_send_by_file,
)
from opsq.core.pools.prefork_records import UpFrame

_SOFT_AGAIN_S = 0.1


class Slot:
    """A child process, from the request to fork it until it has been reaped.

    jobs: what it was given, oldest first; the first one runs. unsent: how many of the last ones
    are only promised to it, in the turn promised_to. unfit: those that could not be encoded, with the error. announced:
    whether the first one was reported as started. verdict: why the worker itself killed it.
    suspect: it did not take a job that lay before it.
    made_at, head_at and the limits in monotonic seconds, head_since in epoch seconds.
    """

    def __init__(self, number: int, io: NowIO, made_at: float = 0.0) -> None:
        self.number = number
        self.made_at = made_at
        self.pid = 0
        self.ready = False
        self.leaving = False
        self.leaving_on_purpose = False
        self.hung_up = False
        self.suspect = False
        self.jobs: deque[Job] = deque()
        self.unsent = 0
        self.promised_to: object = None
        self.unfit: list[tuple[Job, Exception]] = []
        self.announced = False
        self.work_s = 0.0
        self.done = 0
        self.head_at = math.inf
        self.head_since = 0.0
        self.soft_at = math.inf
        self.hard_at = math.inf
        self.kill_at = math.inf
        self.verdict = ""
        self.verdict_signum: int | None = None
        self._io = io
        self._pidfd = -1
        self._soft_wait_s = _SOFT_AGAIN_S
        self._rest = b""
        self.down, self.down_far = packet_pair()
        self.up, self.up_far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.up_fd = self.up.fileno()
        self._down_fd = self.down.fileno()

    @property
    def open(self) -> bool:
        """Whether it may be given jobs."""
        return self.ready and not (self.leaving or self.verdict or self.suspect)

    def forked(self, pid: int) -> None:
        """Learn the process id; from now on only the child holds its end of the up stream."""
        self.pid = pid
        self.up_far.close()
        with contextlib.suppress(OSError):  # it has died already, or no descriptor is left
            self._pidfd = os.pidfd_open(pid)

    def promise(self, jobs: Iterable[Job], to: object) -> None:
        """Give it ``jobs``, to be sent by ``flush`` of the same turn."""
        self.promised_to = to
        for job in jobs:
            self.jobs.append(job)
            self.unsent += 1

    def flush(self) -> list[Job]:
        """Send what was promised; returns the jobs for which there was no room or no reader.

        A job that cannot be encoded ends up in ``unfit``.
        """
        while self.unsent:
            job = self.jobs[-self.unsent]
            try:
                sent = self._send(job_packet(job))
            except ConnectionError:
                self.leaving = True
                sent = False
            except OSError:  # no descriptor or memory for a large job just now
                sent = False
            except (ValueError, TypeError, OverflowError) as exc:
                self.unfit.append((job, exc))
                del self.jobs[-self.unsent]
                sent = True
            if not sent:
                break
            self.unsent -= 1
        return self.take_unsent()

    def take_unsent(self) -> list[Job]:
        """Take back what was promised and not sent, oldest first."""
        back = [self.jobs.pop() for _ in range(self.unsent)]
        self.unsent = 0
        back.reverse()
        return back

    def take_back(self) -> list[Job]:
        """Take back every job that it has not begun, oldest first.

        Works whatever the child is doing, stuck or stopped, because the jobs still lie in the
        kernel and whoever reads a packet is the only one to have it.
        """
        unsent = self.take_unsent()
        keys: set[int] = set()
        while (key := discard_packet(self.down_far)) is not None:
            keys.add(key)
        if not keys:
            return unsent
        # Not simply the last ones: the child may be taking jobs at the same moment, in between.
        back = [job for job in self.jobs if job.key in keys]
        self.jobs = deque(job for job in self.jobs if job.key not in keys)
        return back + unsent

    def read(self) -> list[UpFrame]:
        """Return the frames that have arrived. Raises ValueError when they are none of ours."""
        frames: list[UpFrame] = []
        while not self.hung_up:
            data = self._io.recv(self.up_fd)
            if data is None:
                break
            if not data:
                self.hung_up = True
                break
            some, self._rest = split_frames(self._rest + data if self._rest else data)
            frames += some
        return frames

    def begin_head(self, at: float, since: float) -> None:
        """Start the clocks of the job that is first now: monotonic ``at``, epoch ``since``."""
        self.soft_at = self.hard_at = math.inf
        self._soft_wait_s = _SOFT_AGAIN_S
        if not self.jobs:
            self.head_at = math.inf
            return
        self.head_at, self.head_since = at, since
        job = self.jobs[0]
        if job.soft_limit_s is not None:
            self.soft_at = at + job.soft_limit_s
        if job.hard_limit_s is not None:
            self.hard_at = at + job.hard_limit_s

    def next_timer(self) -> float:
        """When ``soft_at``, ``hard_at`` or ``kill_at`` is due next."""
        return min(self.soft_at, self.hard_at, self.kill_at)

    def warn(self, now: float) -> bool:
        """Signal the soft limit; again later, should the child think it too early. Returns whether it was the first."""
        first = self._soft_wait_s == _SOFT_AGAIN_S
        self.signal(signal.SIGUSR1)
        self.soft_at = now + self._soft_wait_s
        self._soft_wait_s *= 2
        return first

    def signal(self, signum: int) -> bool:
        """Send ``signum`` to this very process, never to one that has got its number since."""
        if not self.pid:
            return False
        try:
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signum)
            else:
                os.kill(self.pid, signum)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def doubt(self, kill_at: float) -> None:
        """Give it nothing until it answers a ping; kill it at ``kill_at`` when it does not."""
        self.suspect = True
        self.kill_at = kill_at
        with contextlib.suppress(OSError):
            self._io.send(self._down_fd, PING_PACKET)

    def trust(self) -> None:
        """It has answered."""
        self.suspect = False
        self.kill_at = math.inf

    def wait_dead(self, timeout_s: float) -> bool:
        """Wait until the process has ended."""
        if self._pidfd < 0:
            return True
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        return bool(ended.poll(timeout_s * 1000))

    def condemn(self, verdict: str, signum: int | None = None) -> None:
        """Kill it, remembering why; its end is reported by the fork server."""
        self.verdict = verdict
        self.verdict_signum = signum
        self.soft_at = self.hard_at = self.kill_at = math.inf
        self.signal(signal.SIGKILL)

    def dismiss(self) -> None:
        """Let it end when it has done what it has begun."""
        self.leaving = self.leaving_on_purpose = True
        self._down_fd = -1  # the number may soon belong to somebody else
        self.down.close()

    def close(self) -> None:
        """Give every descriptor back. Harmless twice."""
        self.leaving = self.hung_up = True
        self._down_fd = -1
        for end in (self.down, self.down_far, self.up, self.up_far):
            end.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self.pid = 0

    def _send(self, data: bytes) -> bool:
        if len(data) > INLINE_MAX_BYTES:
            return try_send_by_file(self.down, data)
        return self._io.send(self._down_fd, data)
