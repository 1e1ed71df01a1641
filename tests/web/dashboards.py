"""The queries of dashboards and alert rules that people have, and of ours: each must find something."""

from __future__ import annotations

from collections.abc import Iterator

SEL = 'cluster="", namespace="", job=~"opsq-celery", queue_name!~"None"'
SELQ = f'{SEL}, queue_name=~"images|mail"'
SELT = f'{SELQ}, name=~"shop.*", name!~"None"'
FINAL = ("succeeded", "failed", "retried", "revoked", "rejected")
EXPORTED = ("sent", "received", *FINAL)


def celery_overview() -> Iterator[str]:
    """The dashboard "Celery / Tasks / Overview", Grafana 17508 and 17509."""
    good, bad = (f"sum(round(increase(celery_task_{end}_total{{{SEL}}}[1w])))" for end in ("succeeded", "failed"))
    yield f"count(celery_worker_up{{{SEL}}} == 1)"
    yield f"sum(celery_worker_tasks_active{{{SEL}}})"
    yield f"count(group by (queue_name) (celery_queue_length{{{SEL}}}))"
    yield f"sum(round(increase(celery_task_received_total{{{SEL}}}[1w])))"
    yield f"{good} / ({good} + {bad})"
    yield f"sum(rate(celery_task_runtime_sum{{{SEL}}}[1w])) / sum(rate(celery_task_runtime_count{{{SEL}}}[1w])) > 0"
    yield f"topk(10, sum(celery_queue_length{{{SEL}}}) by (queue_name))"
    yield f"topk(10, sum(rate(celery_task_received_total{{{SEL}}}[6h])) by (name))"
    for end in EXPORTED:
        yield f"sum(increase(celery_task_{end}_total{{{SEL}}}[6h])) > 0"
        yield f"sum(round(increase(celery_task_{end}_total{{{SELQ}}}[1h]))) by (job)"
    yield f"sum(celery_queue_length{{{SELQ}}}) by (job, queue_name)"
    for share in ("0.50", "0.95", "0.99"):
        yield f"histogram_quantile({share}, sum(irate(celery_task_runtime_bucket{{{SELQ}}}[1m])) by (job, le))"
    yield f"round(sum(increase(celery_task_failed_total{{{SELQ}}}[1w])) by (job, name))"
    yield f"round(sum(increase(celery_task_failed_total{{{SELQ}}}[1w])) by (job, exception)) > 0"
    total, runs = (f"sum(rate(celery_task_runtime_{part}{{{SELQ}}}[1w])) by (name)" for part in ("sum", "count"))
    yield f"{total} / {runs} > 0"


def celery_by_task() -> Iterator[str]:
    """The dashboard "Celery / Tasks / By Task", and the older "Celery / Tasks"."""
    for by in ("queue_name", "name"):
        yield f"topk(10, sum(rate(celery_task_received_total{{{SELQ}}}[6h])) by ({by}))"
    for end in EXPORTED:
        yield f"sum(round(increase(celery_task_{end}_total{{{SELT}}}[1w]))) by (name)"
    yield f"round(sum(increase(celery_task_failed_total{{{SELT}}}[1w])) by (name, exception))"
    yield f"histogram_quantile(0.95, sum(irate(celery_task_runtime_bucket{{{SELT}}}[1m])) by (name, job, le))"
    good, bad = (f"sum(rate(celery_task_{end}_total{{{SELT}}}[1m]))" for end in ("succeeded", "failed"))
    yield f"{good} / ({good} + {bad})"
    yield "count(celery_worker_up == 1)"
    yield "round(topk(5, sum by (name) (increase(celery_task_failed_total[1d]) > 0)))"
    yield "group by (name) (celery_task_sent_total)"
    yield "sum(celery_task_queue_wait_time_count) > 0"
    for what in ("consumer", "worker", "process"):
        yield f"celery_active_{what}_count"


def celery_alerts() -> Iterator[str]:
    """The rules of celery-mixin, without their bounds, or where they must fire with them."""
    of = 'job=~".*celery.*", queue_name!~"None", name!~"None"'
    bad, good = (
        f"sum(increase(celery_task_{end}_total{{{of}}}[10m])) by (job, namespace, queue_name, name)"
        for end in ("failed", "succeeded")
    )
    yield f"{bad} / ({bad} + {good}) * 100"
    yield 'sum(celery_queue_length{job=~".*celery.*", queue_name!~"None"}) by (job, namespace, queue_name) > 100'
    yield 'celery_worker_up{job=~".*celery.*"} == 0'


def flower() -> Iterator[str]:
    """Flower's own dashboard, the one before it, and its rules."""
    yield "count(flower_worker_online == 1)"
    yield "count(flower_worker_online == 0)"
    yield 'sum(increase(flower_events_total{type=~"task-(succeeded|failed)"}[1h])) > 0'
    yield 'sum(increase(flower_events_total{type="task-failed"}[1h])) > 0'
    yield "flower_worker_number_of_currently_executing_tasks"
    for kind in ("failed", "retried"):
        yield f'sum by (worker) (increase(flower_events_total{{worker=~".+", task=~".+", type="task-{kind}"}}[1m]))'
    yield "sum by (worker) (flower_worker_prefetched_tasks)"
    yield "avg by (task) (flower_task_prefetch_time_seconds)"
    total, runs = (f"sum by (task)(rate(flower_task_runtime_seconds_{part}[1m]))" for part in ("sum", "count"))
    yield f"{total} / clamp_min({runs}, 1e-9)"
    yield "histogram_quantile(0.95, sum by (le, task)(rate(flower_task_runtime_seconds_bucket[1m])))"
    bad, ended = (
        f'sum(avg_over_time(flower_events_total{{type=~"{kinds}"}}[15m])) by (task)'
        for kinds in ("task-failed", "task-failed|task-succeeded")
    )
    yield f"({bad} / {ended}) * 100 > 1"
    yield "sum(avg_over_time(flower_task_prefetch_time_seconds[15m])) by (task, worker)"


def ours() -> Iterator[str]:
    """What opsq's own dashboards and rules are made of."""
    yield "histogram_quantile(0.95, sum by (le, type)(rate(opsq_task_run_seconds_bucket[1m])))"
    yield "histogram_quantile(0.95, sum by (le, queue)(rate(opsq_queue_task_queue_wait_seconds_bucket[1m])))"
    yield 'sum by (type)(increase(opsq_tasks_total{state="failed"}[1h])) > 0'
    yield "max by (queue)(opsq_queue_oldest_age_seconds) > 60"
    yield "opsq_worker_up == 0"
    yield "process_resident_memory_bytes"


QUERIES = [*celery_overview(), *celery_by_task(), *celery_alerts(), *flower(), *ours()]
