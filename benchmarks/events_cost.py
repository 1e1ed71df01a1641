"""What events cost a worker, and whether it notices its monitor: tasks a second, in interleaved pairs.

``--compare off``: task events off, against on. ``absent``: nobody reads, against a monitor that does. ``stopped``: a
monitor stopped by SIGSTOP, against nobody. ``full``: a monitor whose disk is full (no file of it may grow any more),
against one whose is not. The quotient is the median of the pairs'; ``dropped`` is what the worker dropped and counted.
``--apart``: the worker has a core of its own, as if monitor and broker were on another machine; without it, a monitor
that works takes its share of the cores from the worker, and one that is absent gives it back.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from redis import Redis

from benchmarks import site
from benchmarks.filling import DEFAULT_SLOTS, figures_of, fill

COMPARISONS: Final = ("off", "absent", "stopped", "full")
#: The history of a monitor "with a full disk" may grow to this size and no further.
FULL_BYTES: Final = 300_000
_BASE: Final = {"OPSQ_WORKER_SEND_TASK_EVENTS": "true", "OPSQ_TASK_SEND_SENT_EVENT": "false"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="redis", choices=("redis", "sqlite"))
    parser.add_argument("--pool", default="threads", choices=("threads", "prefork"))
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--compare", default="off", choices=COMPARISONS)
    parser.add_argument("--apart", action="store_true", help="the worker on one core, everything else on the others")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the pairs and return the figures."""
    pairs = [_pair(options, swapped=bool(number % 2)) for number in range(options.pairs)]
    shares = [other["tasks_per_s"] / one["tasks_per_s"] for one, other in pairs]
    return {
        "broker": options.broker, "pool": options.pool, "tasks": options.tasks, "pairs": options.pairs,
        "compare": options.compare, "apart": options.apart,
        "with_tasks_per_s": _median(one["tasks_per_s"] for one, _ in pairs),
        "other_tasks_per_s": _median(other["tasks_per_s"] for _, other in pairs),
        "quotient": round(statistics.median(shares), 4), "quotients": [round(share, 3) for share in shares],
        "dropped": sum(other["dropped"] for _, other in pairs),
    }  # fmt: skip


def _median(values: Iterator[float]) -> int:
    return round(statistics.median(values))


def _pair(options: argparse.Namespace, *, swapped: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """One run as it should be and one of the other kind, in turns first."""
    # A monitor that works shares the processors with the worker; one that is stopped does not, so nobody is its peer.
    base = "absent" if options.compare == "stopped" else "usual"
    kinds = (base, options.compare)
    runs = {kind: _run(options, kind) for kind in (reversed(kinds) if swapped else kinds)}
    return runs[base], runs[options.compare]


def _run(options: argparse.Namespace, kind: str) -> dict[str, Any]:
    """One run in a process of its own, so that none warms up the next."""
    words = ["-m", "benchmarks.events_cost", options.broker, options.pool, str(options.tasks), kind, options.compare]
    words += ["apart"] if options.apart else []
    found = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, check=False, text=True)
    try:
        rate, dropped = found.stdout.split()[-2:]
        return {"tasks_per_s": float(rate), "dropped": int(dropped)}
    except (ValueError, IndexError):
        raise site.CannotMeasure(f"a run of kind {kind!r} did not finish") from None


def run_once(broker: str, pool: str, tasks: int, kind: str, against: str, apart: str = "") -> None:
    """Fill, run one worker, and print tasks a second and the events dropped."""
    own_core, *others = sorted(os.sched_getaffinity(0))
    if apart:
        os.sched_setaffinity(0, others)  # servers and monitor inherit it
    os.environ.update(_BASE | ({"OPSQ_WORKER_SEND_TASK_EVENTS": "false"} if kind == "off" else {}))
    with site.site(broker, pool, DEFAULT_SLOTS[pool], tasks) as place:
        from benchmarks.workload import app, board, noop

        fill(app, noop, tasks)
        # Events against none is measured without anybody who reads: what reading costs is another question.
        with nullcontext() if against == "off" else _monitor(place, kind), place.worker("-n", "cost@here") as process:
            if apart:
                os.sched_setaffinity(process.pid, {own_core})
            place.wait_until_done(board, process)
            rate = figures_of(board, 0.0)["per_second"]
            answer = app.control.inspect(["cost@here"], timeout=5.0).stats() or {}
            dropped = answer.get("cost@here", {}).get("opsq", {}).get("events_dropped", 0)
        app.close()
    print(rate, dropped)


@contextmanager
def _monitor(place: site.Site, kind: str) -> Iterator[None]:
    if kind == "absent":
        yield
        return
    folder = place.folder / "monitor"
    folder.mkdir()
    words = [sys.executable, "-m", "opsq", "monitor", "--no-web", "-l", "CRITICAL"]
    limit = _no_room if kind == "full" else None
    process = subprocess.Popen(
        words,
        env=place.environment() | {"OPSQ_MONITOR_STORE_URL": f"sqlite:///{folder}/history.db"},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=limit,
    )
    try:
        _until_it_listens(folder, process)
        if kind == "stopped":
            process.send_signal(signal.SIGSTOP)
        yield
    finally:
        process.kill()
        process.wait(10)


def _no_room() -> None:
    """Let no file grow beyond a few pages: a write beyond it fails as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, FULL_BYTES))


def _until_it_listens(folder: Path, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + 20
    url = os.environ.get("OPSQ_BROKER_URL", "")
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            raise site.CannotMeasure("the monitor does not run")
        if url.startswith("redis"):
            with Redis.from_url(url) as client:
                if client.execute_command("PUBSUB", "NUMPAT"):
                    return
        elif (folder / "history.db").exists():
            time.sleep(0.5)
            return
        time.sleep(0.05)
    raise site.CannotMeasure("the monitor does not listen")


if __name__ == "__main__":
    run_once(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
