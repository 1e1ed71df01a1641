"""Time limits as measured: how long after the stated moment a soft or hard limit ended a run, in milliseconds.

A worker with prefork slots inside this process; each case several times, with the limits changed at
run time by remote control between soft and hard. A soft limit is an exception, which a C call that looks at no signals
sees when it returns: shown as null, since only a hard limit ends it.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import site
from opsq.core.pools.base import Outcome
from opsq.testing.harness import RunningWorker, running_worker

LIMIT_S = 0.5
NODE = "limits@here"
UNINTERRUPTIBLE = ("C call, hashing",)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--times", type=int, default=5)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once and return the figures."""
    with site.site("sqlite", "prefork", 1, 1):
        from benchmarks import limited

        figures: dict[str, Any] = {}
        with running_worker(limited.app, pool="prefork", concurrency=1, hostname=NODE) as worker:
            worker.wait("listening")
            for kind in ("soft", "hard"):
                _set(limited.app, kind)
                for case in limited.LONG:
                    skip = kind == "soft" and case in UNINTERRUPTIBLE
                    figures[f"{kind}, {case}"] = None if skip else _worst_ms(worker, limited, case, options.times)
        limited.app.close()
    worst = max(value for value in figures.values() if value is not None)
    return {"limit_s": LIMIT_S, "times": options.times, "worst_overshoot_ms": worst, "overshoot_ms": figures}


def _set(app: Any, kind: str) -> None:
    limits = {kind: LIMIT_S}
    answer = app.control.time_limit("limited.long", destination=[NODE], reply=True, timeout=5, **limits)
    if not answer or "ok" not in answer[0][NODE]:
        raise site.CannotMeasure(f"the time limit could not be set: {answer}")


def _worst_ms(worker: RunningWorker, limited: Any, case: str, times: int) -> float:
    worst = 0.0
    for _ in range(times):
        sent = limited.long.delay(case)
        outcome = worker.wait("settled", sent.id).detail
        if not isinstance(outcome, Outcome) or outcome.state != "FAILURE":
            raise site.CannotMeasure(f"{case} was not ended by its limit: {outcome}")
        worst = max(worst, (outcome.finished_at - outcome.started_at - LIMIT_S) * 1000)
    return round(worst, 1)
