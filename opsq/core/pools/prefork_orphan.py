"""Nobody outlives the worker: how a process arranges to die with its parent.

Two nets. The kernel's: a signal at the parent's death, which also reaches a process that is stuck
in C code. And the portable one: every socket here has its other end in the worker, so reading it
ends when the worker does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel SIGKILL this process when the thread that made it ends.

    parent_pid: who the parent has to be; it may have died before the request reached the kernel,
    and then no signal would ever come. Ends the process at once in that case.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of what descendants leave behind, so that it is reaped here.

    In a container the other candidate is process 1, which often reaps nothing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def name_process(name: str) -> None:
    """Show ``name`` (≤ 15 characters) for this process in ``ps`` and ``top``."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
