"""The alerts: what is wrong, for how long, how bad, what to do, and the histories that prove each rule.

Each has a history that fires it and one that does not; ``promtool test rules`` plays both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from deploy.generate.promql import PLACE, increase, now, placed, quantile

Given = tuple[tuple[str, str], ...]
_ON: Final = f"on ({', '.join(PLACE)})"
_ON_QUEUE: Final = f"on ({', '.join(PLACE)}, queue)"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. waits: how long it must hold ("5m"). labels: of the alert that ``fires`` raises at ``at``.

    fires, quiet: series and their values a minute, in promtool's words, without the label ``job``, which all have.
    """

    name: str
    says: str
    waits: str
    severity: str
    summary: str
    advice: str
    fires: Given
    quiet: Given
    labels: Mapping[str, str] = field(default_factory=dict)
    at: str = "30m"


_FAILED: Final = placed(increase("opsq_tasks_total", "10m", state="failed"), "type")
_ENDED: Final = placed(increase("opsq_tasks_total", "10m", state="failed|succeeded"), "type")
_BUSY: Final = f"{placed(now('opsq_slots_busy'))} / {placed(now('opsq_slots'))}"

ALERTS: Final = (
    Alert(
        "OpsqMonitorDown", "absent(opsq_build_info)", "5m", "critical",
        "No monitor of opsq answers Prometheus.",
        "Look at the monitor's pod or service; tasks run without it, and nobody sees them.",
        fires=(), quiet=(('opsq_build_info{version="1"}', "1x60"),),
    ),
    Alert(
        "OpsqBrokerNotHeard", f"{now('opsq_stream_connected')} == 0", "2m", "critical",
        "The monitor does not hear the broker.",
        "Is the broker up, and may the monitor reach it? What happens meanwhile is asked for again from the workers.",
        fires=(("opsq_stream_connected", "0x60"),), quiet=(("opsq_stream_connected", "1x60"),),
    ),
    Alert(
        "OpsqWorkerLost", f"{now('opsq_worker_up')} == 0", "1m", "warning",
        "Worker {{ $labels.worker }} was not heard any more and did not say goodbye.",
        "Look at its log and at why its machine or container ended; its tasks go back to the broker.",
        fires=(('opsq_worker_up{worker="w1"}', "1x10 0x50"),), quiet=(('opsq_worker_up{worker="w1"}', "1x60"),),
        labels={"worker": "w1"},
    ),
    Alert(
        "OpsqQueueWithoutWorker",
        f"{now('opsq_queue_length')} > 0 and {_ON_QUEUE} {now('opsq_queue_workers')} == 0", "5m", "critical",
        "Tasks wait in {{ $labels.queue }} and no worker takes from it.",
        "Start workers with --queues={{ $labels.queue }}, or see `opsq why ID` for one of its tasks.",
        fires=(('opsq_queue_length{queue="mail"}', "3x60"), ('opsq_queue_workers{queue="mail"}', "0x60")),
        quiet=(('opsq_queue_length{queue="mail"}', "3x60"), ('opsq_queue_workers{queue="mail"}', "1x60")),
        labels={"queue": "mail"},
    ),
    Alert(
        "OpsqQueueOld", f"{now('opsq_queue_oldest_age_seconds')} > 600", "5m", "warning",
        "The oldest task of {{ $labels.queue }} has waited for more than ten minutes.",
        "`opsq why ID` says what it waits for: slots, a rate limit, a pause, or a worker.",
        fires=(('opsq_queue_oldest_age_seconds{queue="mail"}', "0+60x60"),),
        quiet=(('opsq_queue_oldest_age_seconds{queue="mail"}', "5x60"),), labels={"queue": "mail"},
    ),
    Alert(
        "OpsqQueueGrowing",
        f"{now('opsq_queue_arrival_rate')} > 1.1 * {now('opsq_queue_drain_rate')}"
        f" and {_ON_QUEUE} {now('opsq_queue_length')} > 100", "15m", "warning",
        "More comes to {{ $labels.queue }} than is worked off.",
        "Give it slots: more replicas, or a higher maximum for the autoscaler.",
        fires=(('opsq_queue_arrival_rate{queue="mail"}', "20x60"), ('opsq_queue_drain_rate{queue="mail"}', "10x60"),
               ('opsq_queue_length{queue="mail"}', "200+600x60")),
        quiet=(('opsq_queue_arrival_rate{queue="mail"}', "20x60"), ('opsq_queue_drain_rate{queue="mail"}', "20x60"),
               ('opsq_queue_length{queue="mail"}', "200x60")), labels={"queue": "mail"},
    ),
    Alert(
        "OpsqTasksFail", f"{_FAILED} / {_ENDED} > 0.05 and {_FAILED} >= 5", "1m", "warning",
        "More than 5 % of {{ $labels.type }} fail.",
        "The page Errors groups them by cause; `opsq tasks` finds them.",
        fires=(('opsq_tasks_total{type="pay", state="failed"}', "0+2x60"),
               ('opsq_tasks_total{type="pay", state="succeeded"}', "0+8x60")),
        quiet=(('opsq_tasks_total{type="pay", state="failed"}', "0+1x60"),
               ('opsq_tasks_total{type="pay", state="succeeded"}', "0+99x60")), labels={"type": "pay"},
    ),
    Alert(
        "OpsqQuarantine", f"{now('opsq_quarantine_messages')} > 0", "0m", "warning",
        "Messages were set aside: they cannot be read, nobody knows their task, or they killed their worker.",
        "`opsq quarantine list` shows them with the evidence; release or drop them.",
        fires=(("opsq_quarantine_messages", "0x20 2x40"),), quiet=(("opsq_quarantine_messages", "0x60"),),
    ),
    Alert(
        "OpsqNoFreeSlot", f"{_BUSY} > 0.95 and {_ON} {placed(now('opsq_tasks_waiting'))} > 0", "15m", "warning",
        "All slots have been busy for a quarter of an hour while tasks wait.",
        "Give more slots, or see on the page Tasks which type takes them.",
        fires=(('opsq_slots{worker="w1"}', "4x60"), ('opsq_slots_busy{worker="w1"}', "4x60"),
               ("opsq_tasks_waiting", "9x60")),
        quiet=(('opsq_slots{worker="w1"}', "4x60"), ('opsq_slots_busy{worker="w1"}', "2x60"),
               ("opsq_tasks_waiting", "9x60")),
    ),
    Alert(
        "OpsqEventsLost", f"{increase('opsq_events_lost_total', '10m')} > 0", "0m", "warning",
        "Events did not arrive and could not be had again: counts of this time are too low.",
        "Look at the broker's memory and at event_queue_ttl; the pages show the gap.",
        fires=(("opsq_events_lost_total", "0x20 0+5x40"),), quiet=(("opsq_events_lost_total", "7x60"),),
    ),
    Alert(
        "OpsqMonitorBehind", f"{now('opsq_ingest_lag_seconds')} > 30", "5m", "warning",
        "What the pages show is more than 30 s old.",
        "Give the monitor processor time, or PostgreSQL a faster disk.",
        fires=(("opsq_ingest_lag_seconds", "45x60"),), quiet=(("opsq_ingest_lag_seconds", "0.4x60"),),
    ),
    Alert(
        "OpsqHistoryNotKept", f"{now('opsq_history_writable')} == 0", "1m", "critical",
        "The monitor cannot write its history; it waits in memory.",
        "A full disk, or a PostgreSQL that is away.",
        fires=(("opsq_history_writable", "0x60"),), quiet=(("opsq_history_writable", "1x60"),),
    ),
    Alert(
        "OpsqHistoryGivenUp", f"{increase('opsq_history_given_up_total', '10m')} > 0", "0m", "critical",
        "Tasks were lost from the history because memory could not hold them any longer.",
        "See OpsqHistoryNotKept; the tasks themselves ran.",
        fires=(("opsq_history_given_up_total", "0x20 0+9x40"),), quiet=(("opsq_history_given_up_total", "0x60"),),
    ),
    Alert(
        "OpsqTicksMissed", f"{increase('opsq_beat_missed_total', '15m')} > 0", "0m", "warning",
        "Schedule entry {{ $labels.entry }} missed ticks.",
        "Was beat or the broker away? `opsq schedule list` shows what its catch-up rule did.",
        fires=(('opsq_beat_missed_total{entry="report"}', "0x20 0+1x40"),),
        quiet=(('opsq_beat_missed_total{entry="report"}', "3x60"),), labels={"entry": "report"},
    ),
    Alert(
        "OpsqTicksLate", f"{quantile(0.95, 'opsq_beat_late_seconds', '10m')} > 30", "5m", "warning",
        "Calls of the schedule are sent more than 30 s late.",
        "Is the leading beat short of processor time, or the broker slow to confirm?",
        fires=(('opsq_beat_late_seconds_bucket{le="10"}', "0x60"), ('opsq_beat_late_seconds_bucket{le="60"}', "0+1x60"),
               ('opsq_beat_late_seconds_bucket{le="+Inf"}', "0+1x60")),
        quiet=(('opsq_beat_late_seconds_bucket{le="10"}', "0+1x60"),
               ('opsq_beat_late_seconds_bucket{le="+Inf"}', "0+1x60")),
    ),
    Alert(
        "OpsqAutoscalerAtItsLimit",
        f"{now('opsq_autoscale_wanted_slots')} > {now('opsq_autoscale_max_slots')}", "15m", "warning",
        "The load of {{ $labels.group }} asks for more slots than it may have.",
        "Raise its maximum, or accept that tasks wait; `opsq autoscale explain` says why.",
        fires=(('opsq_autoscale_wanted_slots{group="mail"}', "20x60"),
               ('opsq_autoscale_max_slots{group="mail"}', "8x60")),
        quiet=(('opsq_autoscale_wanted_slots{group="mail"}', "5x60"),
               ('opsq_autoscale_max_slots{group="mail"}', "8x60")), labels={"group": "mail"},
    ),
)  # fmt: skip


def rules() -> dict[str, Any]:
    """Return the rule file as Prometheus reads it."""
    return {"groups": [{"name": "opsq", "rules": [_rule(alert) for alert in ALERTS]}]}


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.says,
        "for": alert.waits,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "description": alert.advice},
    }
