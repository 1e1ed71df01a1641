"""A folder with an app and an ``opsq worker`` that tests send signals to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from opsq import Opsq
from tests.cli.runner import PATIENCE_S, clean_environment, wait_for

MODULE = '''
import os, pathlib, threading, time
from opsq import Opsq
from opsq.bootsteps import Bootstep

HERE = pathlib.Path(__file__).parent
app = Opsq("shop", data_dir=str(HERE / "data"))


@app.task
def gate(name):
    (HERE / f"{name}.entered").touch()
    while not (HERE / f"{name}.open").exists():
        time.sleep(0.005)
    return os.getpid()


@app.task(acks_late=False)
def mail():
    return "sent"


@app.task
def say(words):
    print(words)


class Stubborn(Bootstep[None]):
    """Never comes back from stop."""

    name = "stubborn"

    def start(self, up):
        return None

    def stop(self, deadline):
        threading.Event().wait()


if (HERE / "stubborn").exists():
    app.steps["worker"].add(Stubborn)
'''


class WorkerSite:
    """One worker at a time in ``folder``, and an app of this process for the same broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "out.log"
        self.app = Opsq("shop", data_dir=str(folder / "data"), set_as_current=False)
        self.worker: subprocess.Popen[str] | None = None
        (folder / "shop.py").write_text(MODULE)

    def start(self, *words: str, ready: str = "  ready", **environment: str) -> subprocess.Popen[str]:
        """Start ``opsq worker -A shop WORDS``; return when its log says ``ready``."""
        with self.log.open("w") as sink:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "opsq", "worker", "-A", "shop", *words],
                cwd=self.folder,
                env=clean_environment() | environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                text=True,
            )
        if ready:
            wait_for(self.log, ready, self.worker)
        return self.worker

    def said(self, words: str) -> None:
        """Wait until the worker's output contains ``words``."""
        assert self.worker is not None
        wait_for(self.log, words, self.worker)

    def busy(self, name: str = "a") -> Any:
        """Send a task that runs until ``open`` and wait until it does; returns its handle."""
        result = self.app.send_task("shop.gate", (name,))
        until(lambda: (self.folder / f"{name}.entered").exists(), "the task began")
        return result

    def open(self, name: str = "a") -> None:
        """Let the task end."""
        (self.folder / f"{name}.open").touch()

    def close(self) -> None:
        """Kill what is left."""
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()
        pid_file = self.folder / "w.pid"
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
        self.app.close()


def until(met: Callable[[], bool], what: str) -> None:
    """Wait until ``met()``. Raises: AssertionError in vain."""
    pause, limit = threading.Event(), time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < limit, f"never: {what}"
        pause.wait(0.01)


def gone(pid: int) -> bool:
    """Whether the process has ended; a zombie has."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """GET from the health port; status and JSON."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
