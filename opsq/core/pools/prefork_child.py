"""The life of one child: take a job, run it, say how it ended, take the next.

The order is the whole protocol. A job is taken off the socket only when the outcome of the one
before has been written, so at the death of a child at most one job is unaccounted for, and what
it had not taken yet the worker takes back by itself.

Thread: the main thread of the child, so that a soft time limit can interrupt the task.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

import msgspec

from opsq.core.pools.base import Job, Outcome, Runner
from opsq.core.pools.prefork_frames import INLINE_MAX_BYTES, PING, frame, receive_packet
from opsq.core.pools.prefork_growth import GrowthWatch
from opsq.core.pools.prefork_records import Alive, ChildOptions, Done, Failed, Leaving, Ready, UpFrame, decode_job
from opsq.core.pools.verdicts import runner_broke, soft_limit_passed
from opsq.errors import OpsqError, SoftTimeLimitExceeded

log = logging.getLogger(__name__)

EXIT_RECYCLED: Final = 155
"""Exit code of a child that ends because it has done enough; Celery's number."""

_EARLY_S: Final = 0.005
"""A soft limit's signal may come this much before this process's own clock says so."""

_TEXT_MAX: Final = 20_000


class Child:
    """One child process from fork to exit."""

    def __init__(self, down: socket.socket, up: socket.socket, options: ChildOptions) -> None:
        self._down = down
        self._up = up
        self._options = options
        self._buffer = bytearray(INLINE_MAX_BYTES)
        self._soft_at = math.inf
        self._soft_s = 0.0
        self._asked_to_leave = False
        self._growth = GrowthWatch()

    def live(self, setup: Callable[[], Runner]) -> int:
        """Serve until told to end; returns the exit code."""
        _reset_signals()
        try:
            runner = setup()
        except BaseException as exc:  # noqa: BLE001  # boundary: whatever user code raises here, the operator must see
            self._say(Failed(what_went_wrong(exc)))
            return 1
        signal.signal(signal.SIGUSR1, self._on_soft_limit)
        signal.signal(signal.SIGTERM, self._on_term)
        self._say(Ready(os.getpid()))
        try:
            return self._serve(runner)
        except (BrokenPipeError, ConnectionResetError):
            return 0  # the worker is gone: nobody is left to tell
        finally:
            _close(runner)

    def _serve(self, runner: Runner) -> int:
        taken = 0
        while True:
            data, _ = receive_packet(self._down, self._buffer)
            if not data:
                self._say(Leaving("asked"))
                return 0
            if len(data) == 1 and data == PING:
                self._say(Alive())
                continue
            job = decode_job(data)
            done = self._run(runner, job)
            self._growth.after(job.task, time.monotonic())
            taken += 1
            reason = self._reason_to_leave(taken)
            if reason:
                self._say(done, Leaving(reason))
                return EXIT_RECYCLED
            self._say(done)

    def _run(self, runner: Runner, job: Job) -> Done:
        started_at, begun = time.time(), time.monotonic()
        if job.soft_limit_s is not None:
            self._soft_s = job.soft_limit_s
            self._soft_at = begun + job.soft_limit_s
        try:
            outcome = runner.run(job, self._call)
        except BaseException as exc:  # noqa: BLE001  # boundary: a broken runner, or a soft limit before the task's own code
            outcome = self._without_outcome(job, started_at, exc)
        finally:
            self._soft_at = math.inf
        return Done(outcome, time.monotonic() - begun)

    def _call(self, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Call the task's own code, after which its soft limit means nothing.

        What comes then (store, publish, handlers) would be done twice, or by half, if it were interrupted.
        """
        try:
            return function(*args, **kwargs)
        finally:
            self._soft_at = math.inf

    def _without_outcome(self, job: Job, started_at: float, exc: BaseException) -> Outcome:
        if isinstance(exc, SoftTimeLimitExceeded):
            return soft_limit_passed(job, started_at, time.time())
        log.exception("the runner raised", extra={"task_id": job.id, "task": job.task})
        return runner_broke(job, started_at, time.time(), exc)

    def _say(self, *frames: UpFrame) -> None:
        try:
            data = b"".join(map(frame, frames))
        except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
            data = b"".join(frame(_plain(item)) for item in frames)
        self._up.sendall(data)

    def _reason_to_leave(self, taken: int) -> str:
        options = self._options
        if self._asked_to_leave:
            return "asked"
        if options.max_tasks and taken >= options.max_tasks:
            return "tasks"
        if options.max_memory_kib and _rss_kib() > options.max_memory_kib:
            return "memory"
        if self._growth.near_the_end:
            return "files"
        return ""

    def _on_soft_limit(self, signum: int, at: FrameType | None) -> None:
        """Raise in the task, unless the signal was meant for the job before this one."""
        if time.monotonic() + _EARLY_S >= self._soft_at:
            self._soft_at = math.inf
            raise SoftTimeLimitExceeded(self._soft_s)

    def _on_term(self, signum: int, at: FrameType | None) -> None:
        """End after the job in hand: service managers send TERM to every process of a worker.

        Shutting the socket ends a wait for the next job without the risk of dropping one that is
        just being taken, which raising from here would bring.
        """
        self._asked_to_leave = True
        with contextlib.suppress(OSError):
            self._down.shutdown(socket.SHUT_RD)


def what_went_wrong(exc: BaseException) -> str:
    """Say it in our own words when we have some, else with the traceback; bounded."""
    text = str(exc) if isinstance(exc, OpsqError) else "".join(traceback.format_exception(exc))
    return text[-_TEXT_MAX:]


def _reset_signals() -> None:
    """Drop the fork server's handlers. A handler, unlike ignoring, is not inherited by programs a task starts."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _nothing)


def _nothing(signum: int, at: FrameType | None) -> None:
    """Do nothing, on purpose."""


def _rss_kib() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * (os.sysconf("SC_PAGE_SIZE") // 1024)


def _plain(item: UpFrame) -> UpFrame:
    """Return ``item`` with every text made encodable: a task may raise errors with lone surrogates."""
    if not isinstance(item, Done):
        return item
    outcome = item.outcome
    texts = ("id", "result_repr", "exception_repr", "traceback", "fingerprint")
    cleaned = {name: _encodable(getattr(outcome, name)) for name in texts}
    return Done(msgspec.structs.replace(outcome, **cleaned), item.busy_s)


def _encodable(text: str | None) -> str | None:
    return None if text is None else str(text).encode("utf-8", "backslashreplace").decode()


def _close(runner: Runner) -> None:
    """Let the runner end its connections, and write out what was printed."""
    try:
        getattr(runner, "close", _nothing_to_close)()
    except Exception:  # boundary: the jobs are done, a failing close must not look like a lost worker
        log.exception("closing the child's runner failed")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _nothing_to_close() -> None:
    """Stand in for a runner without ``close``."""
