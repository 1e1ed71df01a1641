"""Tie the life of a process to its parent's, so that nothing is left behind by a kill."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from opsq.errors import UsageError

PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int) -> None:
    """End this process by SIGTERM when the process ``parent_pid``, its parent, is gone.

    Thread: main, before any other thread starts; Linux ties the signal to the parent's thread
    that started us. Elsewhere the parent's own shutdown is the only guard.
    Raises: UsageError when the parent is already gone.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # The parent may have died before the call above, and then no signal ever comes.
    if os.getppid() != parent_pid:
        raise UsageError(f"the process that started this one ({parent_pid}) is gone")
