"""Waking from greenlets: eventlet's own ``os.write`` refuses two that write to one descriptor at once."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

PROGRAM = """
import {library}
{patch}
from opsq.broker.wake import Waker, readable
waker = Waker()
def wake():
    for _ in range(100):
        waker.wake()
waiting = [{library}.spawn(wake) for _ in range(4)]
for one in waiting:
    one.{wait}()
print(readable([waker.fileno()], 1) == {{waker.fileno()}})
waker.drain()
print(readable([waker.fileno()], 0) == set())
"""
LIBRARIES = {
    "eventlet": ("eventlet.monkey_patch()", "wait"),
    "gevent": ("from gevent import monkey; monkey.patch_all()", "get"),
}


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_many_greenlets_wake_one_owner(library: str) -> None:
    if find_spec(library) is None:  # not importorskip: eventlet warns at every fork of a process that imported it
        pytest.skip(f"{library} is not installed")
    patch, wait = LIBRARIES[library]
    program = PROGRAM.format(library=library, patch=patch, wait=wait)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "True\nTrue\n", done.stderr
