"""The fork server made before the worker's first thread: when it is, what it shares, and what it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

HERE = os.path.dirname(__file__)

HEAD = f"""
import json, os, select, signal, socket, sys, threading, time
sys.path[:0] = [{HERE!r}, {os.getcwd()!r}]
import prefork_stub
from opsq.core.pools.base import Job, PoolConfig
from opsq.core.pools.prefork import AHEAD, PreforkPool
from opsq.core.pools.prefork_early import fork_early, why_not
from opsq.core.pools.prefork_records import ChildOptions
"""

POOL = """
ahead = PreforkPool.ahead(setup, {})
heard = threading.Condition()
outcomes = {}

def on_outcomes(some):
    with heard:
        outcomes.update((each.key, each) for each in some)
        heard.notify_all()

pool = PreforkPool(PoolConfig(slots=2, run=None, on_started=lambda *_: None, on_outcomes=on_outcomes,
                              settings={}, child_setup=setup, extra=ahead))
pool.start()

def run(key, task, arg=None):
    pool.submit(Job(key, str(key), task, {"arg": arg}, b"", "", "", {}, {}))
    with heard:
        assert heard.wait_for(lambda: key in outcomes, 60)
    return outcomes[key]
"""


def result_of(program: str) -> Any:
    """Run ``program`` in an interpreter of its own; its last line is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + program], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("given", "doubt"),
    [
        ("pass", ""),
        ("pair = socket.socketpair()", ""),
        ("pipe = os.pipe()", ""),
        ("gate = threading.Event(); threading.Thread(target=gate.wait, daemon=True).start()", "2 threads"),
        ("made = socket.create_server(('127.0.0.1', 0))", "a network connection"),
        ("made = socket.socket(socket.AF_UNIX); made.bind('\\0opsq-early'); made.listen()", "another process"),
        ("made = select.epoll()", "an event loop"),
    ],
)
def test_a_copy_is_only_made_of_a_process_that_nobody_else_uses(given: str, doubt: str) -> None:
    said = result_of(f"{given}\nprint(json.dumps(why_not()))")
    assert doubt in said
    assert bool(doubt) == bool(said)


def test_the_app_is_loaded_once_for_all_and_children_hold_nothing_of_the_worker() -> None:
    told = result_of(
        "setup = prefork_stub.build\n"
        + POOL
        + "loaded_in, parent, built_here = run(1, 'loaded_in').result_repr.split()\n"
        "files, threads, stdin = (run(n, task).result_repr for n, task in ((2, 'fds'), (3, 'threads'), (4, 'stdin')))\n"
        "pool.stop(time.monotonic() + 5)\n"
        "print(json.dumps([int(loaded_in) == os.getpid(), int(parent) == ahead[AHEAD].pid, built_here, files, threads,"
        " stdin]))"
    )
    # Three standard streams, its two sockets, and the folder that is being listed.
    assert told == [True, True, "True", "6", "1", "''"]


def test_what_was_printed_before_the_fork_is_written_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + "print('hello')\nsetup = prefork_stub.build\n" + POOL + "run(1, 'noop')\n"
         "pool.stop(time.monotonic() + 5)\nprint('bye')"],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.stdout == "hello\nbye\n", done.stderr


def test_a_fresh_fork_server_replaces_the_one_that_was_made_ahead() -> None:
    told = result_of(
        "setup = 'prefork_stub:build'\n"
        + POOL.replace("ahead(setup", "ahead(prefork_stub.build")
        + "first = run(1, 'loaded_in').result_repr.split()\n"
        "old = set(pool.stats()['processes'])\n"
        "os.kill(ahead[AHEAD].pid, signal.SIGKILL)\n"
        "while old & set(pool.stats()['processes']):\n"
        "    time.sleep(0.01)\n"
        "second = run(2, 'loaded_in').result_repr.split()\n"
        "pool.stop(time.monotonic() + 5)\n"
        "print(json.dumps([int(first[0]) == os.getpid(), int(second[0]) == os.getpid(), second[0] == second[1]]))"
    )
    assert told == [True, False, True]


def test_the_fork_server_ends_with_a_worker_that_never_started_its_pool() -> None:
    told = result_of(
        "link = fork_early(prefork_stub.build, ChildOptions())\n"
        "print(json.dumps([link.end(5.0), os.path.exists(f'/proc/{link.pid}')]))"
    )
    assert told == [0, False]


def test_children_that_share_nothing_are_not_forked_from_the_worker() -> None:
    assert result_of("print(json.dumps(fork_early(prefork_stub.build, ChildOptions(fresh=True))))") is None


def test_what_is_preloaded_is_preloaded_in_the_worker_itself() -> None:
    told = result_of(
        "class Setup(prefork_stub.Preloading):\n"
        "    def __call__(self):\n"
        "        return prefork_stub.StubRunner()\n"
        "setup = Setup('x')\n"
        "link = fork_early(setup, ChildOptions())\n"
        "print(json.dumps([setup.preloaded_in == os.getpid(), link.end(5.0)]))"
    )
    assert told == [True, 0]
