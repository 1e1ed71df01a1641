"""Run the demo for a while without a terminal, and hold the monitor's numbers against the tasks' own ledger.

    python -m examples.demo.smoke --seconds 20

Prints one JSON object as the last line; exits with 1 when a figure is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from examples.demo.ledger import Ledger

PAGE_WITHIN_S = 30.0
SETTLED_WITHIN_S = 30.0
OUTCOMES = ("succeeded", "failed", "retried")


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(url: str) -> tuple[int, bytes]:
    """GET ``url``; return status and body, status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def run(seconds: float, folder: Path) -> dict[str, Any]:
    """Start ``opsq up`` on the demo, let it work, return the figures."""
    page = f"http://127.0.0.1:{(port := free_port())}"
    environment = os.environ | {"DEMO_HOME": str(folder / "files"), "DEMO_SECONDS": str(seconds)}
    command = [sys.executable, "-m", "opsq", "up", "-A", "examples.demo.app"]
    command += ["--data-dir", str(folder / "opsq"), "--port", str(port)]
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=sys.stderr, stdin=subprocess.DEVNULL)
    try:
        page_seconds = wait_for_page(page, process)
        time.sleep(max(0.0, seconds - (time.monotonic() - started)))
        ledger = Ledger(folder / "files" / "ledger.txt")
        figures = settle(page, ledger)
        status, _ = fetch(f"{page}/tasks")
        metrics, text = fetch(f"{page}/metrics")
    finally:
        process.send_signal(signal.SIGINT)
        exit_code = process.wait(30)
    return figures | {
        "page_status": status,
        "metrics_status": metrics if b"opsq_tasks_total" in text else 0,
        "page_seconds": round(page_seconds, 2),
        "exit_code": exit_code,
    }


def wait_for_page(page: str, process: subprocess.Popen[bytes]) -> float:
    """Wait until the page answers; return the seconds it took."""
    started = time.monotonic()
    while time.monotonic() - started < PAGE_WITHIN_S:
        if process.poll() is not None:
            raise SystemExit(f"opsq up ended with exit code {process.returncode} before the page answered")
        if fetch(f"{page}/healthz")[0] == 200:
            return time.monotonic() - started
        time.sleep(0.1)
    raise SystemExit(f"no page on {page} within {PAGE_WITHIN_S:.0f} s")


def settle(page: str, ledger: Ledger) -> dict[str, Any]:
    """Wait until all work has ended and the monitor has seen it; return both sides' figures.

    executed: distinct tasks that ran; runs: how often any did, so retries count again.
    """
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while True:
        own = ledger.counts()
        executed = ledger.ids("executed")
        ended = ledger.ids("succeeded") | ledger.ids("failed")
        status, body = fetch(f"{page}/api/v1/overview")
        seen: Mapping[str, Any] = json.loads(body)["counts"] if status == 200 else {}
        figures: dict[str, Any] = {"executed": len(executed), "runs": own["executed"]} | {
            kind: own[kind] for kind in OUTCOMES
        }
        figures |= {"ended": len(ended), "seen_by_monitor": seen.get("seen", 0), "lost": seen.get("lost")}
        agreed = seen.get("seen") == len(executed) and all(seen.get(kind) == own[kind] for kind in OUTCOMES)
        if (executed == ended and agreed) or time.monotonic() > deadline:
            return figures | {"monitor": dict(seen)}
        time.sleep(0.2)


def faults(figures: Mapping[str, Any]) -> list[str]:
    """Say what is not as it must be."""
    checks = {
        "no task was executed": figures["executed"] > 0,
        "no task succeeded": figures["succeeded"] > 0,
        "no task failed, and the demo has broken pictures": figures["failed"] > 0,
        "no task was retried, and the demo has a locked catalogue": figures["retried"] > 0,
        "tasks began and did not end": figures["executed"] == figures["ended"],
        "the monitor did not see every task": figures["seen_by_monitor"] == figures["executed"],
        "the monitor lost events": figures["lost"] == 0,
        "the monitor counts otherwise than the tasks": all(
            figures["monitor"].get(kind) == figures[kind] for kind in OUTCOMES
        ),
        "the page did not answer": figures["page_status"] == 200,
        "the metrics did not answer": figures["metrics_status"] == 200,
        "opsq up did not end cleanly": figures["exit_code"] == 0,
    }
    return [problem for problem, fine in checks.items() if not fine]


def main() -> int:
    """Run, print the figures, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="opsq-smoke-") as folder:
        figures = run(seconds, Path(folder))
    wrong = faults(figures)
    for problem in wrong:
        print(f"smoke: {problem}", file=sys.stderr)
    print(json.dumps(figures | {"faults": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
