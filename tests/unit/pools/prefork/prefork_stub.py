"""A stub app for the prefork pool's tests: the job's task name says what its run does."""

from __future__ import annotations

import hashlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from opsq.core.pools.base import Call, Job, Outcome
from opsq.errors import SoftTimeLimitExceeded


class StubRunner:
    """Runs jobs without an app or a broker."""

    def __init__(self) -> None:
        self.built_in = os.getpid()
        self.hoard: list[bytearray] = []
        self.files: list[int] = []

    def run(self, job: Job, call: Call | None = None) -> Outcome:
        """Do what the task name says; ``job.headers['arg']`` is its argument."""
        at = time.time()
        if job.task == "slow_load":
            time.sleep(20)
        action = ACTIONS[job.task]
        state, shown, error = "SUCCESS", None, None
        try:
            shown = action(self, job) if call is None else call(action, (self, job), {})
        except SoftTimeLimitExceeded as exc:
            state, error = "FAILURE", f"SoftTimeLimitExceeded{exc.args}"
        if job.task == "slow_store":
            time.sleep(job.headers["arg"])  # outside of the task's own code
        now = time.time()
        return Outcome(
            key=job.key,
            id=job.id,
            state=state,
            settle="ack",
            started_at=at,
            finished_at=now,
            runtime_s=now - at,
            pid=os.getpid(),
            result_repr=shown,
            exception_repr=error,
        )

    async def arun(self, job: Job) -> Outcome:
        """Not for this pool."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave a mark, if asked to."""
        path = os.environ.get("PREFORK_STUB_CLOSED")
        if path:
            with open(path, "a") as file:
                file.write(f"{os.getpid()}\n")


def _sleep(runner: StubRunner, job: Job) -> str | None:
    time.sleep(job.headers["arg"])
    return None


def _when_told(runner: StubRunner, job: Job) -> str | None:
    """Say that it runs by making a file, end when a second one appears or after 20 s."""
    begun, go = job.headers["arg"] + ".begun", job.headers["arg"] + ".go"
    with open(begun, "w") as file:
        file.write(str(os.getpid()))
    until = time.monotonic() + 20
    while not os.path.exists(go) and time.monotonic() < until:
        time.sleep(0.005)
    return None


def _sometimes_long(runner: StubRunner, job: Job) -> str | None:
    """Do nothing, except when given something to wait for."""
    return _when_told(runner, job) if job.headers["arg"] else None


def _stubborn(runner: StubRunner, job: Job) -> str | None:
    """Swallow the soft limit and go on."""
    try:
        time.sleep(20)
    except SoftTimeLimitExceeded:
        time.sleep(20)
    return None


def _compute() -> None:
    while True:
        pass


def _ignore_term() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _compute()


def _receive() -> None:
    near, _far = socket.socketpair()
    near.recv(1)


def _lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _hash() -> None:
    """One call of some 0.8 s that looks at no signal."""
    hashlib.pbkdf2_hmac("sha512", b"x", b"y", 2_000_000)


def _hash_long() -> None:
    hashlib.pbkdf2_hmac("sha512", b"x", b"y", 200_000_000)


BLOCKED: dict[str, Callable[[], None]] = {
    "python": _compute,
    "SIGTERM ignored": _ignore_term,
    "time.sleep": lambda: time.sleep(60),
    "select": lambda: select.select([], [], [], 60) and None,
    "recv": _receive,
    "lock": _lock,
    "subprocess": lambda: subprocess.run(["sleep", "60"], check=False) and None,
    "regex": lambda: re.match("(a+)+$", "a" * 64 + "b") and None,
    "hash": _hash,
    "long hash": _hash_long,
}
"""What a task may be in the middle of when its time is up."""


def _die(runner: StubRunner, job: Job) -> str | None:
    os.kill(os.getpid(), job.headers["arg"])
    time.sleep(20)
    return None


def _grandchild(runner: StubRunner, job: Job) -> str | None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    with open(job.headers["arg"], "w") as file:
        file.write(str(process.pid))
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def _leave_a_program(runner: StubRunner, job: Job) -> str | None:
    """Start a program that would run on for 30 s, and say who it is; ``arg``: start it in a session of its own."""
    program = [sys.executable, "-c", "import time; time.sleep(30)"]
    return str(subprocess.Popen(program, start_new_session=bool(job.headers["arg"])).pid)


def _open_files(runner: StubRunner, job: Job) -> str | None:
    runner.files += [os.open(os.devnull, os.O_RDONLY) for _ in range(job.headers["arg"])]
    return None


def _hoard(runner: StubRunner, job: Job) -> str | None:
    runner.hoard.append(bytearray(os.urandom(1 << 20) * int(job.headers["arg"])))
    return None


def _close_sockets(runner: StubRunner, job: Job) -> str | None:
    os.closerange(3, 256)
    return None


def _raise(runner: StubRunner, job: Job) -> str | None:
    raise SystemExit(3)


ACTIONS: dict[str, Callable[[StubRunner, Job], str | None]] = {
    "noop": lambda runner, job: None,
    "sleep": _sleep,
    "when_told": _when_told,
    "sometimes_long": _sometimes_long,
    "stubborn": _stubborn,
    "die": _die,
    "exit": lambda runner, job: os._exit(job.headers["arg"]),
    "grandchild": _grandchild,
    "leave_a_program": _leave_a_program,
    "open_files": _open_files,
    "slow_store": lambda runner, job: None,
    "slow_load": lambda runner, job: None,
    "blocked": lambda runner, job: BLOCKED[job.headers["arg"]](),
    "hoard": _hoard,
    "close_sockets": _close_sockets,
    "raise": _raise,
    "size": lambda runner, job: str(len(job.body)),
    "surrogate": lambda runner, job: "\ud800",
    "stdin": lambda runner, job: repr(sys.stdin.read()),
    "threads": lambda runner, job: str(len(os.listdir("/proc/self/task"))),
    "fds": lambda runner, job: str(len(os.listdir("/proc/self/fd"))),
    "loaded_in": lambda runner, job: f"{LOADED_IN} {os.getppid()} {runner.built_in == os.getpid()}",
}

LOADED_IN = os.getpid()


def build() -> StubRunner:
    """Build a child's runner."""
    return StubRunner()


def broken() -> StubRunner:
    """Fail, as an app without its configuration would."""
    raise RuntimeError("the stub's set-up failed on purpose")


class Preloading:
    """A set-up object that remembers where it was loaded."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.preloaded_in = 0

    def preload(self) -> None:
        """Called once, in the fork server."""
        self.preloaded_in = os.getpid()

    def __call__(self) -> StubRunner:
        """Build a child's runner; refuse when nothing was preloaded."""
        if self.preloaded_in != os.getppid():
            raise RuntimeError("not preloaded")
        return StubRunner()
