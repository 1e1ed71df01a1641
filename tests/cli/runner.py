"""Run the ``opsq`` command as people do: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 60.0


def opsq(*words: str, cwd: Path, timeout_s: float = PATIENCE_S, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``opsq WORDS`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "opsq", *words],
        cwd=cwd,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """This process's environment without what would configure opsq."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OPSQ_", "CELERY_"))}


@contextmanager
def running(*words: str, cwd: Path, ready: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``opsq WORDS`` for the length of the block, from the moment its output says ``ready``."""
    log = cwd / f"{words[0]}.log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "opsq", *words],
            cwd=cwd,
            env=clean_environment() | environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            wait_for(log, ready, process)
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def wait_for(log: Path, words: str, process: subprocess.Popen[str]) -> None:
    """Wait until ``log`` contains ``words``; fail with the log when the process ends or time is up."""
    deadline = time.monotonic() + PATIENCE_S
    while words not in log.read_text():
        assert process.poll() is None, f"ended with {process.returncode}:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"never said {words!r}:\n{log.read_text()}"
        time.sleep(0.02)
