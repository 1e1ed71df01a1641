"""Time limits as measured: how long after the stated moment a soft or hard limit ended a run, in milliseconds.

A worker with prefork slots inside this process; each case several times, with the limits changed at
run time by remote control between soft and hard. A soft limit is an exception, which a C call that looks at no signals
sees when it returns. For such a call two figures are shown: when the worker knew and said so, after the
stated moment, and when the exception was there, after the end of the call.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks import site
from opsq.core.pools.base import Outcome
from opsq.testing.harness import RunningWorker, running_worker

LIMIT_S = 0.5
NODE = "limits@here"


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
                    if kind == "soft" and case in limited.DEAF:
                        told, raised = _deaf_ms(worker, limited, case, options.times)
                        figures[f"soft, {case}: said by the worker"] = told
                        figures[f"soft, {case}: raised after its end"] = raised
                    else:
                        figures[f"{kind}, {case}"] = _worst_ms(worker, limited, case, options.times)
        limited.app.close()
    worst = max(figures.values())
    return {"limit_s": LIMIT_S, "times": options.times, "worst_overshoot_ms": worst, "overshoot_ms": figures}


def _set(app: Any, kind: str) -> None:
    limits = {kind: LIMIT_S}
    for task in ("limited.long", "limited.deaf"):
        answer = app.control.time_limit(task, destination=[NODE], reply=True, timeout=5, **limits)
        if not answer or "ok" not in answer[0][NODE]:
            raise site.CannotMeasure(f"the time limit could not be set: {answer}")


def _deaf_ms(worker: RunningWorker, limited: Any, case: str, times: int) -> tuple[float, float]:
    begun = time.perf_counter()
    limited.DEAF[case]()
    alone_s = time.perf_counter() - begun
    told = raised = 0.0
    for _ in range(times):
        sent = limited.deaf.delay(case)
        after_s = worker.wait("soft limit", sent.id).detail
        outcome = worker.wait("settled", sent.id).detail
        if not isinstance(outcome, Outcome) or "SoftTimeLimitExceeded" not in str(outcome.exception_repr):
            raise site.CannotMeasure(f"{case} was not ended by its limit: {outcome}")
        told = max(told, (float(str(after_s)) - LIMIT_S) * 1000)
        raised = max(raised, (outcome.runtime_s - alone_s) * 1000)
    return round(told, 1), round(raised, 1)


def _worst_ms(worker: RunningWorker, limited: Any, case: str, times: int) -> float:
    worst = 0.0
    for _ in range(times):
        sent = limited.long.delay(case)
        outcome = worker.wait("settled", sent.id).detail
        if not isinstance(outcome, Outcome) or outcome.state != "FAILURE":
            raise site.CannotMeasure(f"{case} was not ended by its limit: {outcome}")
        worst = max(worst, (outcome.finished_at - outcome.started_at - LIMIT_S) * 1000)
    return round(worst, 1)
