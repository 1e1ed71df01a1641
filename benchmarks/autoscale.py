"""What each autoscaler costs and misses, simulated: all traces, several seeds, a pool and replicas, the same limits."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import fmean
from typing import Any, Final

from opsq.autoscale import traces
from opsq.autoscale.oracle import oracle
from opsq.autoscale.presets import Limits
from opsq.autoscale.rules import fixed, rule
from opsq.autoscale.simulator import Run, peak_load, simulate

#: The same limits for every policy of a level.
LEVELS: Final = {
    "pool": Limits(fewest=1, most=64, unit=1, startup_s=1.0, tick_s=1.0, slo_s=5.0),
    "replicas": Limits(fewest=4, most=64, unit=4, startup_s=30.0, tick_s=5.0, slo_s=60.0),
}
POLICIES: Final = (
    "opsq", "opsq_lean", "opsq_snappy", "celery", "keda", "keda_tuned", "judoscale", "aws", "fixed_peak", "oracle",
)  # fmt: skip
#: A fixed size is chosen for the busiest minute and a fifth more.
ROOM: Final = 1.2
TRACES: Final = tuple(name for name in traces.TRACES if name != "day")
SEEDS: Final = 5
DAY_RUNS: Final = 5
JOBS: Final = 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--traces", nargs="*", default=list(TRACES), choices=list(traces.TRACES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=JOBS, help="processes that simulate at once")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run every cell and return the sums, the cells, and how opsq stands against each goal."""
    cells = [(name, seed) for name in options.traces for seed in range(1, options.seeds + 1)]
    with ProcessPoolExecutor(options.jobs) as pool:
        runs = list(pool.map(one_cell, cells))
    found: dict[str, Any] = {"seeds": options.seeds, "traces": len(options.traces)}
    for level in LEVELS:
        found[level] = {policy: summed([run[level] for run in runs], policy) for policy in POLICIES}
    return found | {"goals": goals(found), "day": one_day()}


def one_cell(cell: tuple[str, int]) -> dict[str, dict[str, Run]]:
    """Every policy at both levels on one trace of one seed."""
    trace = traces.build(*cell)
    found: dict[str, dict[str, Run]] = {}
    for level, limits in LEVELS.items():
        runs = found[level] = {}
        for policy in POLICIES:
            if policy == "oracle":
                runs[policy] = oracle(trace, limits)
            elif policy == "fixed_peak":
                size = min(limits.most, math.ceil(ROOM * peak_load(trace) / limits.unit) * limits.unit)
                runs[policy] = simulate(trace, fixed(max(size, limits.fewest)), limits)
            else:
                runs[policy] = simulate(trace, rule(policy), limits)
    return found


def summed(runs: Sequence[dict[str, Run]], policy: str) -> dict[str, Any]:
    """One policy's figures; sums are over the traces, as the mean of the seeds."""
    names = list(dict.fromkeys(run[policy].trace for run in runs))
    by_trace = {name: [run for run in runs if run[policy].trace == name] for name in names}
    cells = {name: _cell(of_trace, policy) for name, of_trace in by_trace.items()}
    return {
        "late_mean": fmean(run[policy].late for run in runs),
        "late_worst": max(run[policy].late for run in runs),
        "late_over_oracle_mean": fmean(_over(run, policy) for run in runs),
        "late_over_oracle_worst": max(cell["late_over_oracle"] for cell in cells.values()),
        "late_over_oracle_worst_seed": max(_over(run, policy) for run in runs),
        "slot_hours": round(sum(cell["slot_hours"] for cell in cells.values()), 2),
        "actions": round(sum(cell["actions"] for cell in cells.values()), 1),
        "cells": cells,
    }


def _over(run: dict[str, Run], policy: str) -> float:
    return run[policy].late - run["oracle"].late


def _cell(runs: Sequence[dict[str, Run]], policy: str) -> dict[str, float]:
    ours = [run[policy] for run in runs]
    return {
        "late": fmean(run.late for run in ours), "late_worst": max(run.late for run in ours),
        "late_over_oracle": fmean(_over(run, policy) for run in runs),
        "slot_hours": round(fmean(run.slot_hours for run in ours), 3),
        "actions": round(fmean(run.actions for run in ours), 1),
        "actions_worst": max(run.actions for run in ours),
        "slot_hours_worst": round(max(run.slot_hours for run in ours), 3),
        "p95_wait_s": round(max(run.p95_wait_s for run in ours), 2),
        "used": round(fmean(run.used for run in ours), 3),
        "kills": max(run.kills for run in ours), "most_slots": max(run.most_slots for run in ours),
    }  # fmt: skip


def goals(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each goal of opsq's balanced preset: what was measured, the bound, and whether it holds."""
    pool, replicas = found["pool"], found["replicas"]

    def ratio(level: dict[str, Any], other: str, key: str = "slot_hours") -> float:
        return float(level["opsq"][key]) / max(1e-9, float(level[other][key]))

    rows: list[tuple[str, float, float]] = []
    for name, level in (("pool", pool), ("replicas", replicas)):
        rows.append((f"{name}: late above the oracle, mean", level["opsq"]["late_over_oracle_mean"], 0.001))
        rows.append((f"{name}: late above the oracle, worst trace", level["opsq"]["late_over_oracle_worst"], 0.005))
    rows += [
        ("pool: slot-hours / celery", ratio(pool, "celery"), 0.65),
        ("pool: slot-hours / oracle", ratio(pool, "oracle"), 1.4),
        ("pool: slot-hours / fixed_peak", ratio(pool, "fixed_peak"), 0.75),
        ("pool: actions / celery", ratio(pool, "celery", "actions"), 0.6),
        ("replicas: slot-hours / keda", ratio(replicas, "keda"), 0.6),
        ("replicas: slot-hours / keda_tuned", ratio(replicas, "keda_tuned"), 0.65),
        ("replicas: slot-hours / oracle", ratio(replicas, "oracle"), 1.5),
        ("replicas: slot-hours / fixed_peak", ratio(replicas, "fixed_peak"), 0.75),
        ("replicas: actions / celery", ratio(replicas, "celery", "actions"), 0.6),
    ]
    rows += list(_steady_goals(pool["opsq"]["cells"].get("steady")))
    # One trace in which a rival thrashes must not carry a sum.
    calm = [name for name in pool["opsq"]["cells"] if name != "memory"]
    actions = [sum(pool[policy]["cells"][name]["actions"] for name in calm) for policy in ("opsq", "celery")]
    rows.append(("pool: actions / celery, without `memory`", actions[0] / max(1e-9, actions[1]), 0.6))
    return {
        name: {"measured": round(value, 5), "at_most": bound, "holds": value <= bound} for name, value, bound in rows
    }


def _steady_goals(cell: dict[str, float] | None) -> Iterable[tuple[str, float, float]]:
    if cell is not None:
        yield "pool: actions of `steady`, worst seed", cell["actions_worst"], 60.0
        yield "pool: slot-hours of `steady`, worst seed", cell["slot_hours_worst"], 7.0


def one_day() -> dict[str, float]:
    """Simulate a day of 860,000 tasks, and say how long that takes at best: what else runs only makes it longer."""
    trace = traces.build("day")
    seconds, cpu_seconds = math.inf, math.inf
    for _ in range(DAY_RUNS):
        started, cpu = time.perf_counter(), time.process_time()
        run = simulate(trace, rule("opsq"), LEVELS["pool"])
        seconds = min(seconds, time.perf_counter() - started)
        cpu_seconds = min(cpu_seconds, time.process_time() - cpu)
    return {
        "tasks": run.tasks, "seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2), "runs": DAY_RUNS,
        "slot_hours": round(run.slot_hours, 1), "late": run.late, "actions": run.actions,
    }  # fmt: skip
