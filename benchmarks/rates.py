"""Rate limits as measured: ten task types at 10 per second, set in three ways and changed at run time, all at once.

By option, by annotation and at run time in each of three spellings, and by the worker's default. Shown:
the starts per second of each over the time asked for, and the worst deviation from 10/s.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks import site
from benchmarks.limited import CHANGED, NAMES, PER_S, SPELLINGS

SETTLING_S = 2.0
MARGIN = 1.3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--pool", default="prefork", choices=("prefork", "threads"))
    parser.add_argument("--seconds", type=float, default=30.0)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once and return the figures."""
    each = int((options.seconds + 2 * SETTLING_S) * PER_S * MARGIN) + 10
    with site.site("sqlite", options.pool, 2, each * len(NAMES)) as place:
        return _measure(place, options.pool, options.seconds, each)


def _measure(place: site.Site, pool: str, seconds: float, each: int) -> dict[str, Any]:
    from benchmarks import limited

    app, board = limited.app, limited.board()
    app.send_many((f"limited.{name}", (index * each + n,)) for n in range(each) for index, name in enumerate(NAMES))
    command = [sys.executable, "-m", "opsq", "worker", "-A", "benchmarks.limited:app", "-P", pool, "-c", "2"]
    process = subprocess.Popen(
        [*command, "-n", "rates@here", "-l", "WARNING"],
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    try:
        _until_it_answers(app, process)
        for name, spelling in zip(CHANGED, SPELLINGS, strict=True):
            answer = app.control.rate_limit(f"limited.{name}", spelling, ["rates@here"], reply=True, timeout=5)
            if not answer or "ok" not in answer[0]["rates@here"]:
                raise site.CannotMeasure(f"the rate of {name} could not be changed: {answer}")
        time.sleep(SETTLING_S)
        begin = time.time()
        time.sleep(seconds)
        end = time.time()
    finally:
        process.terminate()
        process.wait(30)
        app.close()
    rates = {name: _rate(board, index * each, each, (begin, end)) for index, name in enumerate(NAMES)}
    worst = max(abs(rate - PER_S) / PER_S for rate in rates.values())
    return {"pool": pool, "seconds": seconds, "rates": rates, "worst_deviation": round(worst, 4)}


def _until_it_answers(app: Any, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + 20
    while not app.control.ping(["rates@here"], timeout=1.0):
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise site.CannotMeasure("the worker does not answer")


def _rate(board: Any, first: int, count: int, window: tuple[float, float]) -> float:
    starts = sorted(at for at in board.starts(first, count) if window[0] <= at <= window[1])
    if len(starts) < 2:
        return 0.0
    # Between the first and the last start in it: the window's ends fall anywhere between two starts.
    rate: float = (len(starts) - 1) / (starts[-1] - starts[0])
    return round(rate, 3)
