"""What is computed from the runs of a contest: rows, ratios between them, and the table for people. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Run:
    """One drained queue. executed: runs of tasks; distinct: tasks that ran at all."""

    tasks: int
    executed: int
    distinct: int
    per_second: float
    enqueued_per_second: float
    rss_mb: float


def row_of(facts: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    """Put the runs of one contestant together.

    per_second, enqueued_per_second, rss_mb: medians. spread: (highest - lowest) / median of per_second. tasks,
    executed, distinct, lost and again are sums over the rounds; lost = tasks that never ran, again = runs too many.
    """
    rates = [run.per_second for run in runs]
    median = statistics.median(rates)
    distinct, tasks = sum(run.distinct for run in runs), sum(run.tasks for run in runs)
    executed = sum(run.executed for run in runs)
    return dict(facts) | {
        "rounds": len(runs),
        "tasks": tasks,
        "executed": executed,
        "distinct": distinct,
        "lost": tasks - distinct,
        "again": executed - distinct,
        "per_second": round(median, 1),
        "spread": round((max(rates) - min(rates)) / median, 3),
        "rates": [round(rate, 1) for rate in rates],
        "enqueued_per_second": round(statistics.median(run.enqueued_per_second for run in runs), 1),
        "rss_mb": round(statistics.median(run.rss_mb for run in runs), 1),
    }


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare opsq with the others: pairs of rows, each as opsq's rate divided by theirs; absent rows are left out.

    slowest_pool_to_best_peer is the strictest reading of "ahead of every peer", best_pool_to_best_peer the kindest.
    """
    ours = {row["pool"]: row["per_second"] for row in rows if row["system"] == "opsq"}
    peers = {row["name"]: row["per_second"] for row in rows if row["system"] != "opsq"}
    if not ours or not peers:
        return {}
    best = max(peers, key=lambda name: peers[name])
    found: dict[str, Any] = {
        "best_peer": best,
        "best_pool_to_best_peer": round(max(ours.values()) / peers[best], 2),
        "slowest_pool_to_best_peer": round(min(ours.values()) / peers[best], 2),
    }
    celery = [rate for name, rate in peers.items() if name.startswith("celery-")]
    if celery:
        found["best_pool_to_best_celery"] = round(max(ours.values()) / max(celery), 2)
    for pool, rate in ours.items():
        if f"celery-{pool}" in peers:
            found[f"{pool}_to_celery_{pool}"] = round(rate / peers[f"celery-{pool}"], 2)
    return found


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows as people read them, fastest first."""
    table = Table(title="tasks per second, one worker, prefilled queue")
    for heading in ("system", "pool", "slots", "per second", "spread", "enqueued/s", "memory", "lost", "delivery"):
        table.add_column(heading, justify="left" if heading in ("system", "pool", "delivery") else "right")
    for row in sorted(rows, key=lambda row: -row["per_second"]):
        table.add_row(
            f"{row['system']} {row['version']}",
            row["pool"],
            str(row["slots"]),
            f"{row['per_second']:,.0f}",
            f"{row['spread']:.0%}",
            f"{row['enqueued_per_second']:,.0f}",
            f"{row['rss_mb']:.0f} MB",
            f"{row['lost']:,}",
            row["settings"]["delivery"],
        )
    return table
