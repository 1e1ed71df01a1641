"""What the monitor knows of a group of workers, as one observation for the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from opsq.autoscale.arrivals import dispersion, waiting_ages
from opsq.autoscale.groups import Group
from opsq.autoscale.observation import Due, Gauge, Observation, QueueView
from opsq.autoscale.presets import Limits
from opsq.events import sketch
from opsq.events.records import WorkerItem
from opsq.events.rollup import SEGMENTS, decode_slice
from opsq.events.views import Signals, Views
from opsq.events.workers import LATE, ONLINE

RUN: Final = SEGMENTS.index("run")
#: Run times are those of the last ten minutes, in buckets of ten seconds.
WIDTH_S: Final = 10
WINDOW_S: Final = 600
LONG_S: Final = 60.0


class Served(msgspec.Struct, frozen=True):
    """The workers of a group that are alive: slots, those busy, and the workers themselves."""

    slots: int
    busy: int
    workers: tuple[WorkerItem, ...]


def served(group: Group, workers: Sequence[WorkerItem]) -> Served:
    """Which of ``workers`` belong to the group: those that take from one of its queues."""
    wanted = set(group.queues)
    ours = tuple(one for one in workers if one.status in (ONLINE, LATE) and wanted.intersection(one.queues))
    return Served(sum(one.slots or 0 for one in ours), sum(one.busy or 0 for one in ours), ours)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a group stands at ``at`` (monotonic) and ``now`` (epoch seconds): slots asked for, starting, with a task."""

    at: float
    now: float
    have: int
    starting: int = 0
    running: int = 0
    spent: float = 0.0
    gauge: Gauge | None = None


def observe(group: Group, views: Views, limits: Limits, stands: Standing) -> Observation:
    """Look at the group. The oldest signal says how old what is seen is."""
    now = stands.now
    signals = {name: views.queue_signals(name) for name in group.queues}
    ages = [now - one.sampled_at if one.sampled_at is not None else float("inf") for one in signals.values()]
    queues = tuple(_queue(name, one, views, limits, now) for name, one in signals.items())
    ended = {name: one.done_60_s * LONG_S for name, one in signals.items()}
    failed = sum((one.failed_share or 0.0) * ended[name] for name, one in signals.items())
    due = tuple(Due(name=one.name, in_s=one.in_s, tasks=one.tasks) for one in views.upcoming(group.queues, now))
    return Observation(
        at=stands.at, have=stands.have, starting=stands.starting, running=stands.running, queues=queues,
        age_s=max(0.0, *ages), finished=int(sum(ended.values())), failed=int(failed), gauge=stands.gauge, due=due,
        throughput=sum(one.done_15_s for one in signals.values()), spent=stands.spent,
    )  # fmt: skip


def _queue(name: str, seen: Signals, views: Views, limits: Limits, now: float) -> QueueView:
    cut_s = limits.preset.patience * limits.target(name).slo_s
    mean, spread = _run_times(views, name, now, cut_s)
    depth = None if seen.ready is None else float(seen.ready)
    return QueueView(
        name=name, depth=depth, ages=waiting_ages(seen.arrivals[::-1], depth or 0.0, seen.oldest_age_s),
        rate=seen.arrived_60_s, rate_now=seen.arrived_15_s,
        dispersion=dispersion(seen.arrivals), service_s=mean, service_cv2=spread,
    )  # fmt: skip


def _run_times(views: Views, queue: str, now: float, cut_s: float) -> tuple[float | None, float]:
    """Mean and squared variation of the run times, each up to ``cut_s``."""
    stored = views.slices(WIDTH_S, int(now) - WINDOW_S, int(now) + 1, series=f"q:{queue}")
    held = sketch.merged(decode_slice(data).sketches.get(RUN, {}) for _, _, data in stored)
    return moments(held, cut_s)


def moments(held: Mapping[int, int], cut_s: float) -> tuple[float | None, float]:
    """Mean and squared variation of what a sketch holds, each value up to ``cut_s``; nothing known: (None, 1)."""
    count = sum(number for number in held.values() if number > 0)
    if not count:
        return None, 1.0
    values = [(min(cut_s, sketch.value(place)), number) for place, number in held.items() if number > 0]
    mean = sum(value * number for value, number in values) / count
    square = sum(value * value * number for value, number in values) / count
    return mean, max(0.0, square - mean * mean) / (mean * mean) if mean > 0 else 1.0
