"""The panels of the dashboards: what each asks Prometheus, and how it is drawn."""

# ruff: noqa: E501  (one panel, one line)
from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from deploy.generate.promql import increase, now, quantile, rate, total

#: What the variables of every dashboard choose.
WHERE: Final = 'job=~"$job", namespace=~"$namespace"'
_WINDOW: Final = "$__rate_interval"
_RANGE: Final = "$__range"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression. legend: Grafana's words for a line, such as ``{{queue}}``."""

    asks: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. kind: timeseries, stat, bargauge or table. unit: Grafana's word. width: of 24."""

    title: str
    kind: str
    unit: str
    queries: tuple[Query, ...]
    text: str = ""
    width: int = 12
    height: int = 8
    stack: bool = False


def _by(expression: str, label: str) -> Query:
    return Query(total(expression, label), "{{" + label + "}}")


def _top(expression: str, label: str) -> Query:
    return Query(f"topk(10, {total(expression, label)})", "{{" + label + "}}")


def _stat(title: str, expression: str, unit: str = "short", text: str = "") -> Panel:
    return Panel(title, "stat", unit, (Query(expression),), text, width=4, height=4)


def _gauge(name: str) -> str:
    return now(name, WHERE)


def _three(name: str, by: str = "") -> tuple[Query, ...]:
    named = f" {{{{{by}}}}}" if by else ""
    return tuple(
        Query(quantile(share, name, _WINDOW, by, WHERE), f"p{share * 100:g}{named}") for share in (0.5, 0.95, 0.99)
    )


_FAILED: Final = total(increase("opsq_tasks_total", _RANGE, WHERE, state="failed"))
_ENDED: Final = total(increase("opsq_tasks_total", _RANGE, WHERE, state="succeeded|failed"))

OVERVIEW: Final = (
    _stat("Workers heard", total(now("opsq_workers", WHERE, status="online|late"))),
    _stat("Workers lost", total(now("opsq_workers", WHERE, status="lost"))),
    _stat("Running", total(_gauge("opsq_tasks_running"))),
    _stat("Waiting", total(_gauge("opsq_tasks_waiting"))),
    _stat("Failed of those that ended", f"{_FAILED} / {_ENDED}", "percentunit"),
    _stat("In quarantine", f"{total(_gauge('opsq_quarantine_messages'))} or vector(0)"),
    Panel("Attempts that ended", "timeseries", "ops", (_by(rate("opsq_tasks_total", _WINDOW, WHERE), "state"),), stack=True),
    Panel("Published and started", "timeseries", "ops", (
        Query(total(rate("opsq_tasks_arrived_total", _WINDOW, WHERE)), "published"),
        Query(total(rate("opsq_tasks_started_total", _WINDOW, WHERE)), "started"),
    )),
    Panel("Waiting by queue", "timeseries", "short", (_by(_gauge("opsq_queue_length"), "queue"),), stack=True),
    Panel("Age of the oldest task", "timeseries", "s", (
        Query(f"{total(_gauge('opsq_queue_oldest_age_seconds'), 'queue')}", "{{queue}}"),
    ), "Absent where the broker does not tell, and while a queue is empty."),
    Panel("Publishing to end", "timeseries", "s", _three("opsq_task_total_seconds")),
    Panel("Where the time goes, p95", "timeseries", "s", tuple(
        Query(quantile(0.95, f"opsq_task_{name}_seconds", _WINDOW, "", WHERE), legend) for name, legend in (
            ("queue_wait", "in the broker"), ("prefetch_wait", "held by a worker"), ("start", "starting"),
            ("run", "running"), ("settle", "settling"))
    )),
    Panel("Slots", "timeseries", "short", (
        Query(total(_gauge("opsq_slots")), "slots"), Query(total(_gauge("opsq_slots_busy")), "busy"),
    )),
    Panel("Causes of failure", "timeseries", "ops", (_top(rate("opsq_errors_total", _WINDOW, WHERE), "exception"),)),
)  # fmt: skip

TASKS: Final = (
    Panel("Attempts by type", "timeseries", "ops", (_top(rate("opsq_tasks_started_total", _WINDOW, WHERE), "type"),)),
    Panel("Failed by type", "timeseries", "ops",
          (_top(rate("opsq_tasks_total", _WINDOW, WHERE, state="failed"), "type"),)),
    Panel("Run time by type, p95", "timeseries", "s",
          (Query(quantile(0.95, "opsq_task_run_seconds", _WINDOW, "type", WHERE), "{{type}}"),)),
    Panel("Time in the broker by type, p95", "timeseries", "s",
          (Query(quantile(0.95, "opsq_task_queue_wait_seconds", _WINDOW, "type", WHERE), "{{type}}"),)),
    Panel("Slots held by type", "timeseries", "short",
          (_top(rate("opsq_task_slot_seconds_total", _WINDOW, WHERE), "type"),),
          "Slot-seconds a second: how many slots a type occupies.", stack=True),
    Panel("Outcomes in this range", "table", "short", (
        Query(total(increase("opsq_tasks_total", _RANGE, WHERE), "type", "state"), "{{type}} {{state}}"),
    )),
    Panel("By queue: comes and goes", "timeseries", "ops", (
        Query(total(_gauge("opsq_queue_arrival_rate"), "queue"), "comes to {{queue}}"),
        Query(total(_gauge("opsq_queue_drain_rate"), "queue"), "ends of {{queue}}"),
    )),
    Panel("Publishing to end by queue, p95", "timeseries", "s",
          (Query(quantile(0.95, "opsq_queue_task_total_seconds", _WINDOW, "queue", WHERE), "{{queue}}"),)),
    Panel("In the history by state", "bargauge", "short", (_by(_gauge("opsq_tasks_kept"), "state"),)),
    Panel("Schedule: calls sent", "timeseries", "ops", (_by(rate("opsq_beat_ticks_total", _WINDOW, WHERE), "entry"),)),
    Panel("Schedule: lateness", "timeseries", "s", _three("opsq_beat_late_seconds")),
    Panel("Schedule: ticks left out", "timeseries", "short", (_by(increase("opsq_beat_missed_total", _RANGE, WHERE), "entry"),)),
)  # fmt: skip

WORKERS: Final = (
    Panel("Workers", "timeseries", "short", (_by(_gauge("opsq_workers"), "status"),), stack=True),
    Panel("Slots busy by worker", "timeseries", "short", (_by(_gauge("opsq_slots_busy"), "worker"),), stack=True),
    Panel("Attempts by worker", "timeseries", "ops", (_top(rate("opsq_worker_tasks_total", _WINDOW, WHERE), "worker"),)),
    Panel("Held and not started", "timeseries", "short", (_by(_gauge("opsq_worker_prefetched"), "worker"),)),
    Panel("Processor", "timeseries", "short", (_by(_gauge("opsq_worker_cpu_cores"), "worker"),), "Cores, children included."),
    Panel("Memory", "timeseries", "bytes", (_by(_gauge("opsq_worker_resident_memory_bytes"), "worker"),)),
    Panel("Silent for", "timeseries", "s", (_by(_gauge("opsq_worker_silent_seconds"), "worker"),)),
    Panel("Slots by pool", "timeseries", "short", (_by(_gauge("opsq_pool_slots"), "pool"),), stack=True),
    Panel("Autoscaler", "timeseries", "short", (
        _by(_gauge("opsq_autoscale_desired_slots"), "group"),
        Query(total(_gauge("opsq_autoscale_wanted_slots"), "group"), "{{group}} asks for"),
        Query(total(_gauge("opsq_autoscale_max_slots"), "group"), "{{group}} at most"),
    ), width=24),
    Panel("Events received", "timeseries", "ops", (_by(rate("opsq_events_received_total", _WINDOW, WHERE), "kind"),), stack=True),
    Panel("Events: behind", "timeseries", "s", (Query(total(_gauge("opsq_ingest_lag_seconds")), "p95 of five minutes"),)),
    Panel("Events: not seen", "timeseries", "short", (
        Query(total(_gauge("opsq_events_lost_total")), "lost"),
        Query(total(_gauge("opsq_events_dropped_total")), "dropped by the monitor"),
        Query(total(_gauge("opsq_events_malformed_total")), "unreadable"),
    )),
    Panel("History", "timeseries", "bytes", (Query(total(_gauge("opsq_history_bytes")), "on disk"),
                                             Query(total(_gauge("opsq_live_bytes")), "in memory"))),
    Panel("Tasks in the history", "timeseries", "short", (Query(total(_gauge("opsq_history_tasks")), "tasks"),
                                                          Query(total(_gauge("opsq_history_index_behind")), "not indexed yet"))),
    Panel("Open pages", "timeseries", "short", (Query(total(_gauge("opsq_open_pages")), "pages"),)),
)  # fmt: skip
