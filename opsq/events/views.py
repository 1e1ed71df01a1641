"""What pages, metrics, ``why`` and the autoscaler read beside ``query.py``: errors, workflows, anomalies, rates.

Thread: any. Frozen records, every figure that may be unknown ``None`` when it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Struct, structs

from opsq.clock import Clock, SystemClock
from opsq.events import series as rolled
from opsq.events.agenda import Agenda
from opsq.events.anomalies import Anomalies
from opsq.events.cluster import OTHER, Cluster
from opsq.events.decisions import DecisionItem, item_of
from opsq.events.error_groups import ErrorFacts, ErrorGroups
from opsq.events.error_trends import ErrorTrends, error_trends
from opsq.events.faults import exception_type, template
from opsq.events.flows import Flow
from opsq.events.levels import fresh_depths
from opsq.events.life import OUTCOMES
from opsq.events.queues import drain_s, rates
from opsq.events.records import Percentiles, Point
from opsq.events.rollup import (
    ALL_TIME,
    ARRIVED,
    FAULT,
    STARTED,
    Slice,
    decode_slice,
    fault_parts,
    fault_prefix,
)
from opsq.events.search import literal, of
from opsq.events.shape import Column, run_shape
from opsq.events.slots import NEWEST, SlotUse, slots_of
from opsq.events.store import Store
from opsq.events.workers import LATE, ONLINE, liveness
from opsq.events.workflows import MOST_MEMBERS, Workflow, workflow
from opsq.wire.schedule_hint import Upcoming

_FAILED, _RETRIED = OUTCOMES.index("failed"), OUTCOMES.index("retried")
_SUCCEEDED: Final = OUTCOMES.index("succeeded")
_SHORT_S, _LONG_S = 15, 60


class ErrorGroup(Struct, frozen=True, kw_only=True):
    """Failures of one cause. failed: tries that ended so; retried: tries that were asked to run again.

    title: the message with its particulars left out. versions, types, workers: failures and retries by each;
    an empty name is unknown. newest: (at, task id), latest first. trend: buckets, oldest first.
    """

    fault: str
    type: str
    title: str
    exception: str
    traceback: str
    first_at: float
    last_at: float
    failed: int
    retried: int
    newest: tuple[tuple[float, str], ...] = ()
    versions: Mapping[str, int] = {}
    types: Mapping[str, int] = {}
    workers: Mapping[str, int] = {}
    trend: tuple[Point, ...] = ()


class FlowItem(Struct, frozen=True, kw_only=True):
    """A workflow in a list. exact: false when members may be missing from the counts."""

    root: str
    name: str | None
    at: float
    changed_at: float
    members: int
    states: Mapping[str, int]
    exact: bool


class Anomaly(Struct, frozen=True):
    """A kind of thing that should not happen: tasks that show it now, and the newest of them as (at, id)."""

    kind: str
    count: int
    newest: tuple[tuple[float, str], ...]


class LifeEntry(Struct, frozen=True):
    """An entry of a worker's history, at by our clock.

    what: started, restarted, stopped, silent, command, version. detail: which, how many seconds, command and answer,
    or the label of the code it runs from then on.
    """

    at: float
    what: str
    detail: str


class Signals(Struct, frozen=True, kw_only=True):
    """What a scaling decision reads of one queue or task type. Rates per second over 15 and 60 s.

    ready, unacked, oldest_age_s, consumers, drain_s: of a queue that was sampled of late. arrivals: per second of the
    last 60. run, wait: percentiles of the last ten minutes. sampled_at: when the broker was asked.
    """

    name: str
    arrived_15_s: float
    arrived_60_s: float
    started_60_s: float
    done_15_s: float
    done_60_s: float
    failed_share: float | None
    arrivals: tuple[int, ...]
    busy_slots: float
    ready: int | None = None
    unacked: int | None = None
    oldest_age_s: float | None = None
    consumers: int | None = None
    drain_s: float | None = None
    sampled_at: float | None = None
    workers: int = 0
    run: Percentiles | None = None
    wait: Percentiles | None = None


class Views:
    """Reads one cluster and its store."""

    def __init__(self, store: Store, cluster: Cluster, *, clock: Clock | None = None) -> None:
        self._store = store
        self._cluster = cluster
        self._clock = clock or SystemClock()
        self._agenda = Agenda(store, cluster.tally.ticks, cluster.skews)

    # -- decisions about slots -----------------------------------------------------------------------------------------

    def decisions(
        self, since: float, until: float, *, group: str | None = None, changed: bool = False, limit: int = 1_000
    ) -> tuple[DecisionItem, ...]:
        """Decisions from since to before until (epoch seconds), newest first; of one group, or only changes of size."""
        found = self._store.decisions(since, until, group=group, changed=changed, limit=limit)
        return tuple(map(item_of, found))

    def scaled_groups(self, since: float) -> tuple[DecisionItem, ...]:
        """The newest decision of each group that decided since then, by the group's name."""
        newest = {row.group: row for row in self._store.latest_decisions(since)}
        return tuple(map(item_of, newest.values()))

    def slices(
        self, width_s: int, since: int, until: int, *, series: str | None = None, prefix: str = ""
    ) -> list[tuple[int, str, bytes]]:
        """Rolled-up figures as they are stored, to rebuild a load from."""
        return self._store.slices(width_s, since, until, series=series, prefix=prefix)

    def upcoming(self, queues: Collection[str], now: float) -> tuple[Upcoming, ...]:
        """Ticks of schedules to come whose tasks go to ``queues``, soonest first. Thread: one, the autoscaler's."""
        return self._agenda.upcoming(queues, now)

    # -- errors --------------------------------------------------------------------------------------------------------

    def errors(self, *, limit: int = 200) -> tuple[ErrorGroup, ...]:
        """Error groups, the one heard of last first, without parts and trends."""
        counts = {series: decode_slice(data) for _, series, data in self._store.slices(ALL_TIME, 0, 1, prefix=FAULT)}
        known = sorted(self._errors().copy(), key=lambda facts: (-facts.last_at, facts.fault))[:limit]
        return tuple(_group(facts, counts.get(FAULT + facts.fault)) for facts in known)

    def error(self, fault: str, *, window_s: float = 86_400.0, until: float | None = None) -> ErrorGroup | None:
        """One error group whole, with its trend over the window, which ends at ``until`` or now."""
        facts = self._errors().get(fault)
        if facts is None or not facts.last_at:
            return None
        now = self._clock.now()
        end = now if until is None else min(until, now)
        width_s = rolled.tier_for(window_s, 120, now - end)
        totals = [decode_slice(data) for _, _, data in self._store.slices(ALL_TIME, 0, 1, series=FAULT + fault)]
        by: tuple[dict[str, int], dict[str, int], dict[str, int]] = ({}, {}, {})
        for _, name, data in self._store.slices(ALL_TIME, 0, 1, prefix=fault_prefix(fault)):
            counts = decode_slice(data).counts
            for found, part in zip(by, fault_parts(name), strict=True):
                found[part or ""] = found.get(part or "", 0) + counts[_FAILED] + counts[_RETRIED]
        types, versions, workers = ({part: n for part, n in found.items() if n > 0} for found in by)
        trend = rolled.points(self._store, FAULT + fault, end - window_s + width_s, end, width_s, now)
        return _group(
            facts, totals[0] if totals else None, types=types, versions=versions, workers=workers, trend=trend
        )

    def error_trends(self, *, window_s: float = 86_400.0, until: float | None = None) -> ErrorTrends:
        """How often each error came over the window, which ends at ``until`` or now."""
        return error_trends(self._store, window_s, self._clock.now(), until)

    def _errors(self) -> ErrorGroups:
        """The fold's own; those stored when other monitors write there, too."""
        shared = self._store.ledger()
        if shared is None:
            return self._cluster.errors
        groups = ErrorGroups(self._cluster.limits.errors)
        groups.restore(shared)
        return groups

    # -- task types ----------------------------------------------------------------------------------------------------

    def run_shape(self, name: str, *, window_s: float = 3600.0, until: float | None = None) -> tuple[Column, ...]:
        """How long the runs of one task type took over the window, as counts by length and time."""
        return run_shape(self._store, name, window_s, self._clock.now(), until)

    # -- workflows -----------------------------------------------------------------------------------------------------

    def workflows(self, *, limit: int = 50) -> tuple[FlowItem, ...]:
        """Workflows that moved of late, the latest first."""
        return tuple(_flow(flow) for flow in self._cluster.flows.copy()[:limit])

    def workflow(self, root: str) -> Workflow | None:
        """One workflow with its members, tree and critical path, from the rows."""
        rows = self._store.relatives(root, MOST_MEMBERS)
        first = self._store.task(root)
        return workflow(root, rows if first is None else [first, *rows])

    # -- anomalies and workers -----------------------------------------------------------------------------------------

    def slots(self, worker: str) -> tuple[SlotUse, ...]:
        """What the processes of one worker used for its newest runs; none where events do not tell processes."""
        now = self._clock.now()
        ended = of(worker=literal(worker), state="done").root
        return slots_of(self._store.find(ended, now, limit=NEWEST).rows, worker, now, self._cluster.skews.corrected)

    def anomalies(self) -> tuple[Anomaly, ...]:
        """What should not happen and did, the most frequent first."""
        shared = self._store.ledger()
        known = self._cluster.anomalies
        if shared is not None:
            known = Anomalies()
            known.restore(shared)
        newest, counts = known.samples(), known.counts
        ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        return tuple(Anomaly(kind, count, tuple(newest.get(kind, ()))) for kind, count in ordered)

    def worker_history(self, name: str) -> tuple[LifeEntry, ...]:
        """Starts, stops and silences of a worker, the latest first."""
        record = self._cluster.workers.records.get(name)
        return () if record is None else tuple(LifeEntry(*entry) for entry in reversed(record.history))

    # -- rates ---------------------------------------------------------------------------------------------------------

    def queue_signals(self, name: str) -> Signals:
        """What is known of one queue now."""
        now = self._clock.now()
        sample = next((one for one in fresh_depths(self._cluster.depths.copy(), now) if one.name == name), None)
        found = self._signals(name, now)
        consuming = 0
        for record in self._cluster.workers.copy():
            told = record.said.get("queues")
            consuming += isinstance(told, list) and name in told and liveness(record, now) in (ONLINE, LATE)
        if sample is None:
            return structs.replace(found, workers=consuming)
        return structs.replace(
            found,
            workers=consuming,
            ready=sample.ready,
            unacked=sample.unacked,
            oldest_age_s=sample.oldest_age_s,
            consumers=sample.consumers,
            sampled_at=sample.at,
            drain_s=drain_s(sample.ready, found.arrived_60_s, found.done_60_s),
        )

    def _signals(self, name: str, now: float) -> Signals:
        series = "q:" + name
        recent = self._cluster.rollup.recent(series)
        end = int(now)
        arrived_15, done_15 = rates(recent, now, _SHORT_S)
        arrived_60, done_60 = rates(recent, now, _LONG_S)
        last = [recent.get(second) for second in range(end - _LONG_S, end)]
        known = [data for data in last if data is not None]
        ended = sum(data.counts[_SUCCEEDED] + data.counts[_FAILED] for data in known)
        stored = self._store.slices(10, end - 600, end + 1, series=series)
        measured = rolled.latency(rolled.totals(decode_slice(data) for _, _, data in stored).sketches)
        return Signals(
            name=name,
            arrived_15_s=arrived_15,
            arrived_60_s=arrived_60,
            started_60_s=max(0, sum(data.counts[STARTED] for data in known)) / _LONG_S,
            done_15_s=done_15,
            done_60_s=done_60,
            failed_share=sum(data.counts[_FAILED] for data in known) / ended if ended > 0 else None,
            arrivals=tuple(0 if data is None else max(0, data.counts[ARRIVED]) for data in last),
            busy_slots=sum(data.run_s for data in known) / _LONG_S,
            run=measured.get("run"),
            wait=measured.get("prefetch"),
        )


def _flow(flow: Flow) -> FlowItem:
    counts = flow.states
    return FlowItem(
        root=flow.root,
        name=flow.name,
        at=flow.at,
        changed_at=flow.changed_at,
        members=sum(counts.values()),
        states=counts,
        exact=flow.exact,
    )


def _group(
    facts: ErrorFacts,
    total: Slice | None,
    *,
    types: Mapping[str, int] | None = None,
    versions: Mapping[str, int] | None = None,
    workers: Mapping[str, int] | None = None,
    trend: tuple[Point, ...] = (),
) -> ErrorGroup:
    _, _, exception, traceback = facts.told
    other = facts.fault == OTHER
    return ErrorGroup(
        fault=facts.fault,
        type="?" if other else exception_type(exception),
        title="errors beyond the number that is told apart" if other else template(exception),
        exception=exception,
        traceback=traceback,
        first_at=facts.first_at,
        last_at=facts.last_at,
        failed=max(0, total.counts[_FAILED]) if total else 0,
        retried=max(0, total.counts[_RETRIED]) if total else 0,
        newest=tuple(facts.newest),
        types=types or {},
        versions=versions or {},
        workers=workers or {},
        trend=trend,
    )
