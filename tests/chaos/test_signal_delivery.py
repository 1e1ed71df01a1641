"""The kernel may hand a signal to any thread of a worker: it is heard all the same, and at once."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

import pytest

from tests.chaos.site import Site
from tests.promises import within

HEARD_WITHIN_S = within(5.0)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "tgkill"), reason="needs the C library's tgkill")
def test_a_signal_to_another_thread_ends_the_worker(tmp_path: Path) -> None:
    with Site(f"sqlite:///{tmp_path}/broker.db", tmp_path) as site:
        site.call(range(4), 5.0)
        worker = site.worker("w")
        site.until("work", lambda: len(site.ledger().done) == 4)
        other = max(int(each) for each in os.listdir(f"/proc/{worker.pid}/task") if int(each) != worker.pid)
        assert ctypes.CDLL(None, use_errno=True).tgkill(worker.pid, other, int(signal.SIGTERM)) == 0
        assert worker.wait(HEARD_WITHIN_S) == 0, site.logs()
