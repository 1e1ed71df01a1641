"""Edit a worker's code again and again under load: each edit takes effect soon, and no task is lost.

Run alone for the figures: ``python tests/chaos/test_reload.py --pool prefork --edits 20``; the last line is
one JSON object. In ``make test`` a short run, in ``make chaos`` the full one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from ledger import Ledger  # noqa: E402  a sibling, and this file is also run as a script

from opsq import Opsq  # noqa: E402  follows the sibling

SOON_S = 2.0
PATIENCE_S = 60.0
FULL = os.environ.get("CHAOS") == "full"
SOURCE = (HERE / "reload_app.py").read_text()


class Run:
    """One run of the experiment in ``folder``: ``edits`` edits, the middle one a syntax error."""

    def __init__(self, folder: Path, pool: str, edits: int, seed: int) -> None:
        self.folder = folder
        self.pool = pool
        self.edits = edits
        self.random = random.Random(seed)
        self.app = Opsq("reload_app", data_dir=str(folder / "data"), set_as_current=False)
        self.source = folder / "reload_app.py"
        self.ledger = folder / "ledger"
        self.versions = folder / "versions"
        self.log = folder / "worker.log"
        self.stop = threading.Event()
        self.sent = 0
        self.effects_s: list[float] = []
        self.stragglers_s: list[float] = []
        self.complaint = ""

    def go(self) -> dict[str, Any]:
        """Run the worker, feed it, edit, wait for the end, check; returns the figures."""
        self.source.write_text(SOURCE)
        worker = self._start_worker()
        try:
            self._edit_under_load()
            self._until(lambda: len(Ledger.read(self.ledger).done) >= self.sent, "every task")
            worker.send_signal(signal.SIGTERM)
            exit_code = worker.wait(PATIENCE_S)
        finally:
            worker.kill()  # and with it whatever it keeps; no more than a precaution after a clean end
            worker.wait()
            self.app.close()
        return self._figures(exit_code)

    def _edit_under_load(self) -> None:
        feeder = threading.Thread(target=self._feed, name="feeder")
        feeder.start()
        try:
            self._until(lambda: 0 in self._seen(), "the first task")
            for number in range(1, self.edits + 1):
                self._edit(number, broken=number == (self.edits + 1) // 2)
        finally:
            self.stop.set()
            feeder.join()

    def _start_worker(self) -> subprocess.Popen[bytes]:
        words = ["worker", "-A", "reload_app", "-c", "2", "-P", self.pool, "--autoreload"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPSQ_")}
        environment = inherited | {
            "LEDGER": str(self.ledger),
            "VERSIONS": str(self.versions),
            "OPSQ_DATA_DIR": str(self.folder / "data"),
            "PYTHONPATH": str(HERE.parent.parent),
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "opsq", *words], cwd=self.folder, env=environment, stdout=log, stderr=log
            )

    def _feed(self) -> None:
        """Publish about seventy tasks a second, half of what two slots can do."""
        while not self.stop.wait(0.1):
            numbers = range(self.sent, self.sent + 7)
            calls = [("reload_app.work", (number, self.random.uniform(5, 20)), {}, {}) for number in numbers]
            results = self.app.send_many(calls)
            with self.ledger.open("a") as file:
                file.write("".join(f"C {number}\n" for number in numbers))
            self.sent += len(results)

    def _edit(self, number: int, broken: bool) -> None:
        text = SOURCE.replace("VERSION = 0", f"VERSION = {number}")
        if broken:
            text = text.replace("def work(", "def work((")
        at = time.time()
        if number % 2:
            self.source.write_text(text)
        else:  # as editors do that never leave half a file
            beside = self.source.with_suffix(".new")
            beside.write_text(text)
            beside.replace(self.source)
        if broken:
            self._until(lambda: "goes on" in self.log.read_text(), "the complaint about the syntax error")
            self.complaint = next(line for line in self.log.read_text().splitlines() if "goes on" in line)
            before = len(self._lines())
            self._until(lambda: len(self._lines()) > before + 20, "work on the old code")
            return
        self._until(lambda: number in self._seen(), f"edit {number}")
        self.effects_s.append(min(when for version, when in self._lines() if version == number) - at)
        threading.Event().wait(self.random.uniform(0.0, 0.4))
        self.stragglers_s.append(max((when for version, when in self._lines() if version != number), default=at) - at)

    def _lines(self) -> list[tuple[int, float]]:
        if not self.versions.exists():
            return []
        whole = [line.split() for line in self.versions.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [(int(version), float(at)) for _, _, version, at in whole]

    def _seen(self) -> set[int]:
        return {version for version, _ in self._lines()}

    def _until(self, met: Callable[[], bool], what: str) -> None:
        pause = threading.Event()
        until = time.monotonic() + PATIENCE_S
        while not met():
            if time.monotonic() > until:
                told = [line for line in self.log.read_text().splitlines() if "task succeeded" not in line]
                raise AssertionError("\n".join([f"{what} did not come within {PATIENCE_S} s", *told[-40:]]))
            pause.wait(0.02)

    def _figures(self, exit_code: int) -> dict[str, Any]:
        ledger = Ledger.read(self.ledger)
        effects, stragglers = sorted(self.effects_s), sorted(self.stragglers_s)
        return {
            "pool": self.pool,
            "edits": self.edits,
            "took_effect": len(effects),
            "effect_s": {"median": round(effects[len(effects) // 2], 2), "max": round(effects[-1], 2)},
            "last_start_of_old_code_s": {"max": round(stragglers[-1], 2)},
            "tasks": self.sent,
            "executed": len(ledger.done),
            "violations": ledger.violations()[:10],
            "complaint": self.complaint,
            "exit_code": exit_code,
        }


def check(figures: dict[str, Any], soon_s: float) -> list[str]:
    """Say what of the promise is not kept."""
    wrong = []
    if figures["took_effect"] != figures["edits"] - 1:
        wrong.append(f"{figures['took_effect']} edits took effect")
    if max(figures["effect_s"]["max"], figures["last_start_of_old_code_s"]["max"]) > soon_s:
        wrong.append(
            f"an edit took {figures['effect_s']}, old code started until {figures['last_start_of_old_code_s']}"
        )
    if figures["violations"] or figures["executed"] != figures["tasks"]:
        wrong.append(f"{figures['tasks'] - figures['executed']} lost, {figures['violations']}")
    line = next(number for number, text in enumerate(SOURCE.splitlines(), 1) if text.startswith("def work("))
    if f"reload_app.py:{line}: SyntaxError" not in figures["complaint"]:
        wrong.append(f"the complaint does not name the place: {figures['complaint']!r}")
    if figures["exit_code"] != 0:
        wrong.append(f"exit code {figures['exit_code']}")
    return wrong


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "asyncio"] if FULL else ["prefork", "threads"])
def test_edits_take_effect_and_lose_nothing(tmp_path: Path, pool: str) -> None:
    # In a short run beside other tests the machine decides how long it takes; the full run is alone.
    figures = Run(tmp_path, pool, edits=20 if FULL else 4, seed=1).go()
    assert not check(figures, SOON_S if FULL else PATIENCE_S), json.dumps(figures, indent=1)


def main() -> int:
    """Run the experiment and print its figures."""
    parser = argparse.ArgumentParser(description="Edit a worker's code under load.")
    parser.add_argument("--pool", default="prefork")
    parser.add_argument("--edits", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = Run(Path(folder), options.pool, options.edits, options.seed).go()
    wrong = check(figures, SOON_S)
    print(json.dumps(figures | {"wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
