"""Chords on Redis while a worker is killed every second: every body comes, once, with the whole list.

Run alone for the figures: ``python tests/chaos/test_chord_kills.py --chords 200 --size 50``; the last
line is one JSON object. In ``make test`` a short run, with ``CHAOS=full`` the full one.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from opsq import Opsq, chord  # noqa: E402  this file is also run as a script
from tests.servers import RedisServer, redis_server  # noqa: E402

FULL = os.environ.get("CHAOS") == "full"
WORKERS = 3
BETWEEN_KILLS_S = 1.0


class ChordRun:
    """One run: chords are published, workers die in turn, then everything is left to end."""

    def __init__(self, folder: Path, server: RedisServer, chords: int, size: int, patience_s: float) -> None:
        self.folder = folder
        self.server = server
        self.chords = chords
        self.size = size
        self.patience_s = patience_s
        self.path = folder / "ledger"
        self.killed: set[int] = set()
        self.kills = 0
        self._pause = threading.Event()

    def go(self, kills: int) -> dict[str, Any]:
        """Publish, kill, wait; returns the figures. kills: how many at least, unless all is done before."""
        began = time.monotonic()
        expected = self._publish()
        workers = [self._start(number) for number in range(WORKERS)]
        try:
            while not self._all_done() and (self.kills < kills or kills < 0):
                self._pause.wait(BETWEEN_KILLS_S)
                oldest = workers.pop(0)
                oldest.kill()
                oldest.wait()
                self.killed.add(oldest.pid)
                self.kills += 1
                workers.append(self._start(self.kills % WORKERS))
                if time.monotonic() - began > self.patience_s:
                    break
            until = time.monotonic() + 90
            while not self._all_done() and time.monotonic() < until:
                self._pause.wait(0.05)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(60)
        return self._figures(expected, time.monotonic() - began)

    def _publish(self) -> dict[int, str]:
        app = Opsq("chord_app", broker=self.server.url, backend=self.server.url, set_as_current=False)
        ids = {}
        for number in range(self.chords):
            header = [app.signature("chord_app.part", (place, 2)) for place in range(self.size)]
            result = chord(header, app.signature("chord_app.body", (number, self.size)), app=app).apply_async()
            ids[number] = result.id
        app.close()
        return ids

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPSQ_")}
        environment = inherited | {
            "LEDGER": str(self.path),
            "OPSQ_BROKER_URL": self.server.url,
            "OPSQ_RESULT_BACKEND": self.server.url,
            "OPSQ_DATA_DIR": str(self.folder / "data"),
            # Workers that die a hundred times over would set messages aside as poison.
            "OPSQ_QUARANTINE_AFTER_DEATHS": "0",
            "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)]),
        }
        command = [sys.executable, "-m", "opsq", "worker", "-A", "chord_app", "-P", "threads", "-c", "4"]
        with (self.folder / f"worker{number}.log").open("ab") as log:
            words = [*command, "-n", f"w{self.kills}-{number}@here"]
            return subprocess.Popen(words, cwd=HERE, env=environment, stdout=log, stderr=log)

    def _lines(self) -> list[list[str]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]

    def _all_done(self) -> bool:
        return len({line[1] for line in self._lines() if line[0] == "D"}) == self.chords

    def _figures(self, expected: dict[int, str], seconds: float) -> dict[str, Any]:
        starts: dict[int, list[tuple[str, int, str]]] = collections.defaultdict(list)
        done = set()
        for kind, number, id, pid, whole in self._lines():
            if kind == "S":
                starts[int(number)].append((id, int(pid), whole))
            else:
                done.add(int(number))
        return {
            "chords": self.chords,
            "size": self.size,
            "kills": self.kills,
            "bodies_done": len(done),
            "wrong_ids": sum(1 for number, each in starts.items() if {id for id, _, _ in each} != {expected[number]}),
            "broken_lists": sum(1 for each in starts.values() for _, _, whole in each if whole != "whole"),
            "started_again": sum(len(each) - 1 for each in starts.values()),
            "started_again_for_no_reason": sum(
                1 for each in starts.values() for _, pid, _ in each[:-1] if pid not in self.killed
            ),
            "seconds": round(seconds, 1),
        }


def check(figures: dict[str, Any], kills: int) -> list[str]:
    """Say what is not as it must be."""
    wrong = [
        f"{name}: {figures[name]}"
        for name in ("wrong_ids", "broken_lists", "started_again_for_no_reason")
        if figures[name]
    ]
    if figures["bodies_done"] != figures["chords"]:
        wrong.append(f"only {figures['bodies_done']} of {figures['chords']} bodies came")
    if figures["kills"] < kills:
        wrong.append(f"only {figures['kills']} kills")
    return wrong


def run(folder: Path, chords: int, size: int, kills: int, patience_s: float) -> dict[str, Any]:
    """One experiment with a server of its own."""
    (folder / "redis").mkdir()
    with redis_server(folder / "redis") as server:
        return ChordRun(folder, server, chords, size, patience_s).go(kills)


def test_chords_survive_the_death_of_workers(tmp_path: Path) -> None:
    chords, size, kills = (200, 50, -1) if FULL else (20, 25, 3)
    figures = run(tmp_path, chords, size, kills, 240.0)
    logs = "\n".join(path.read_text()[-2000:] for path in tmp_path.glob("*.log"))
    assert not check(figures, 1), f"{json.dumps(figures)}\n{logs}"


def main() -> int:
    """Run the experiment and print its figures."""
    parser = argparse.ArgumentParser(description="SIGKILL workers while they do chords.")
    parser.add_argument("--chords", type=int, default=200)
    parser.add_argument("--size", type=int, default=50)
    parser.add_argument("--kills", type=int, default=-1, help="at most so many; -1: until all is done")
    parser.add_argument("--patience", type=float, default=240.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), options.chords, options.size, options.kills, options.patience)
    wrong = check(figures, 1)
    print(json.dumps(figures | {"wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
