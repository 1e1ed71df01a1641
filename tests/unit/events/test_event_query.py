"""Reading: honest figures, pages, facets, one task with its relatives."""

from __future__ import annotations

import pytest

from opsq.clock import ManualClock
from opsq.events import search
from opsq.events.cluster import Cluster
from opsq.events.query import Query
from opsq.events.records import DepthSample
from opsq.events.store import MemoryStore
from opsq.testing.contract_store import T0, event, life
from opsq.wire.event import Event


@pytest.fixture
def cluster() -> Cluster:
    """A cluster over a new store."""
    return Cluster(MemoryStore())


def fed(cluster: Cluster, events: list[Event], now: float) -> Query:
    """The query after these events."""
    cluster.apply(events, now)
    store = cluster._store
    store.write(cluster.take())
    cluster.written()
    return Query(store, cluster, clock=ManualClock(now))


def online(host: str = "opsq@one", at: float = T0, **fields: object) -> Event:
    """A worker says hello."""
    said = {"freq": 2.0, "processed": 0, "active": 0, "sw_ident": "opsq", **fields}
    return Event(kind="worker-online", hostname=host, timestamp=at, pid=1, fields=said, seq=1, emitter=host)


def test_nothing_known_is_not_zero(cluster: Cluster) -> None:
    """Without samples, workers and events the strip is blank where it must be."""
    strip = fed(cluster, [], T0).strip()
    assert (strip.slots, strip.waiting, strip.oldest_wait_s, strip.failed_share, strip.event_lag_s) == (None,) * 5
    assert strip.running == 0
    assert strip.lost_events == 0


def test_lost_events_are_unknown_when_nobody_numbers(cluster: Cluster) -> None:
    """Celery's workers do not number their events."""
    query = fed(cluster, life("a", T0, name="x"), T0 + 1)
    assert query.strip().lost_events is None
    assert query.strip().lost_unknown_emitters == 1
    assert query.counters().lost is None


def test_the_strip_tells_what_is(cluster: Cluster) -> None:
    """Running of slots, waiting and oldest, rates, failures, lag."""
    events = [online(slots=4, queues=["celery"])]
    for n in range(20):
        events += life(f"t{n}", T0 + 1 + n * 0.1, end=("task-succeeded", "task-failed")[n % 10 == 0])
    events += life("running", T0 + 3)[:2]
    cluster.observe_depth(DepthSample("celery", 7, T0 + 4, oldest_age_s=2.5))
    cluster.observe_depth(DepthSample("mail", 1, T0 + 4))
    query = fed(cluster, events, T0 + 4.5)
    strip = query.strip()
    assert (strip.running, strip.slots, strip.waiting, strip.waiting_most_in) == (1, 4, 8, "celery")
    assert (strip.oldest_wait_s, strip.oldest_in) == (2.5, "celery")
    assert (strip.failed, strip.finished, strip.failed_share) == (2, 20, 0.1)
    assert strip.done_per_s == 2.0
    assert strip.event_lag_s is not None
    assert sum(strip.done_spark) * 10 == pytest.approx(20)
    overview = query.overview()
    assert overview.states == {"SUCCESS": 18, "FAILURE": 2, "STARTED": 1}
    assert (overview.workers_online, overview.tasks_kept) == (1, 21)
    (worker,) = query.workers()
    assert (worker.status, worker.running, worker.succeeded, worker.failed, worker.gaps) == ("online", 1, 18, 2, 0)
    queue = query.queues()[0]
    assert (queue.name, queue.ready, queue.workers) == ("celery", 7, ("opsq@one",))


def test_tasks_of_a_dead_worker_do_not_run(cluster: Cluster) -> None:
    """They stay STARTED in the list, and are not counted as running."""
    query = fed(cluster, [online(slots=4), *life("t", T0)[:2]], T0 + 1)
    assert query.strip().running == 1
    later = Query(cluster._store, cluster, clock=ManualClock(T0 + 600))
    assert later.strip().running == 0
    assert later.strip().slots is None
    assert later.overview().states == {"STARTED": 1}


def test_pages_totals_and_facets(cluster: Cluster) -> None:
    """Every page once, exact totals, facets that ignore their own part of the filter."""
    events = [
        each
        for n in range(120)
        for each in life(f"t{n}", T0 + n, name=f"app.{'ab'[n % 2]}", end=("task-succeeded", "task-failed")[n % 3 == 0])
    ]
    query = fed(cluster, events, T0 + 200)
    seen: list[str] = []
    before: int | None = None
    while True:
        page = query.tasks(search.of(type="app.*"), before=before, limit=50)
        assert page.total == 120
        seen += [item.id for item in page.items]
        before = page.older
        if before is None:
            break
    assert seen == [f"t{n}" for n in range(119, -1, -1)]
    failed = search.of(state="failed", type="app.a")
    assert query.tasks(failed).total == 20
    facets = query.facets(failed)
    assert {value.value: value.count for value in facets.state} == {"SUCCESS": 40, "FAILURE": 20}
    assert {value.value: value.count for value in facets.type} == {"app.a": 20, "app.b": 20}
    found = query.tasks(search.of(text="app.b", state="failed"), limit=5)
    assert len(found.items) == 5
    assert (found.total, found.at_least) == (20, False)
    assert found.older is not None
    assert all(item.type == "app.b" for item in found.items)
    assert [item.id for item in query.tasks(search.of(id="t11")).items] == [
        "t119",
        "t118",
        "t117",
        "t116",
        "t115",
        "t114",
        "t113",
        "t112",
        "t111",
        "t110",
        "t11",
    ]


def test_one_task_with_its_relatives(cluster: Cluster) -> None:
    """Parent, children, tries with traceback, and a parent nobody has heard of."""
    events = [
        *life("root", T0),
        event("task-received", "child", T0 + 1, name="app.child", root_id="root", parent_id="root", retries=0),
        event("task-started", "child", T0 + 2),
        event("task-failed", "child", T0 + 3, exception="E()", traceback="tb"),
        event("task-received", "orphan", T0 + 4, name="x", root_id="gone", parent_id="gone"),
    ]
    query = fed(cluster, events, T0 + 5)
    root = query.task("root")
    assert root is not None
    assert [child.id for child in root.children] == ["child"]
    child = query.task("child")
    assert child is not None
    assert child.parent is not None
    assert (child.parent.id, child.traceback, child.tries[0].exception) == ("root", "tb", "E()")
    orphan = query.task("orphan")
    assert orphan is not None
    assert orphan.item.anomalies == ("unknown parent",)
    assert query.task("never") is None


def test_latency_is_taken_apart(cluster: Cluster) -> None:
    """opsq's own times, per try and as percentiles."""
    times = {
        "published_at": T0, "delivered_at": T0 + 1, "slot_at": T0 + 3, "started_at": T0 + 3.5,
        "finished_at": T0 + 7.5, "acked_at": T0 + 8.5, "attempt": 1, "name": "app.x", "queue": "q",
    }  # fmt: skip
    query = fed(cluster, [event("task-succeeded", "t", T0 + 9, **times)], T0 + 10)
    task = query.task("t")
    assert task is not None
    got = task.item.segments
    assert (got.broker, got.prefetch, got.start, got.run, got.settle, got.total) == (1.0, 2.0, 0.5, 4.0, 1.0, 8.5)
    (kind,) = query.task_types()
    assert (kind.name, kind.runs, kind.total_s) == ("app.x", 1, 4.0)
    assert kind.run is not None
    assert kind.run.p50 == pytest.approx(4.0, rel=0.02)
    points = query.series(3600, type="app.x")
    assert sum(point.done for point in points) == 1
    counters = query.counters()
    assert counters.ended["succeeded"] == 1
    assert query.figures.by("t:")["app.x"].run_s == query.figures.by("w:")["opsq@one"].run_s == 4.0


def test_the_wait_for_an_eta_is_not_latency(cluster: Cluster) -> None:
    """Held from delivery until due: only what comes after is prefetch."""
    due = "2026-09-21T14:13:40+00:00"
    events = [
        event("task-received", "t", T0, eta=due, retries=0),
        event("task-started", "t", T0 + 20.5),
        event("task-succeeded", "t", T0 + 21, runtime=0.5),
    ]
    query = fed(cluster, events, T0 + 30)
    task = query.task("t")
    assert task is not None
    assert task.item.segments.prefetch == pytest.approx(0.5)


def test_started_twice_is_seen(cluster: Cluster) -> None:
    """A redelivery after the visibility time-out is what operators want to see."""
    again = [
        event("task-started", "t", T0 + 50, host="opsq@two"),
        event("task-succeeded", "t", T0 + 51, host="opsq@two"),
    ]
    query = fed(cluster, [*life("t", T0), *again], T0 + 60)
    task = query.task("t")
    assert task is not None
    assert task.item.anomalies == ("ended twice", "final then started", "started twice")
    assert query.counters().anomalies["started twice"] == 1
