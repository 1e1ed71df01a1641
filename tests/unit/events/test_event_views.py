"""What pages, the autoscaler and ``why`` read: errors, workflows, anomalies, histories, rates."""

from __future__ import annotations

import math
from typing import Any

import pytest

from opsq.clock import ManualClock
from opsq.events.cluster import Cluster, Limits
from opsq.events.faults import fault_of, template
from opsq.events.queues import drain_s
from opsq.events.records import DepthSample
from opsq.events.store import MemoryStore
from opsq.events.views import Views
from opsq.testing.contract_store import T0, event, life
from opsq.wire.event import Event

TRACEBACK = """Traceback (most recent call last):
  File "/venv/lib/celery/app/trace.py", line 451, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/srv/{release}/shop/tasks.py", line {line}, in pay
    raise Timeout({seconds})
shop.Timeout: {seconds}
"""


def failed(uuid: str, at: float, **fields: Any) -> list[Event]:
    """A task that fails."""
    return [*life(uuid, at)[:2], event("task-failed", uuid, at + 0.2, **fields)]


def seen(store: MemoryStore, cluster: Cluster, now: float) -> Views:
    """Views of what was written."""
    store.write(cluster.take())
    return Views(store, cluster, clock=ManualClock(now))


def test_failures_of_one_cause_are_one_group() -> None:
    """Another release, line and number, the same fault; counted by version, type and worker, with its trend."""
    store = MemoryStore()
    cluster = Cluster(store)
    for n in range(3):
        text = TRACEBACK.format(release=f"v{n}", line=10 + n, seconds=n)
        fields: dict[str, Any] = {"exception": f"Timeout({n})", "traceback": text, "attempt": 1, "version": f"v{n % 2}"}
        cluster.apply(failed(f"t{n}", T0 + n, **fields), T0 + 5)
    cluster.apply(failed("other", T0 + 9, exception="KeyError('x')"), T0 + 9)
    views = seen(store, cluster, T0 + 10)
    latest, timeouts = views.errors()
    assert (latest.type, latest.failed) == ("KeyError", 1)
    assert (timeouts.type, timeouts.title, timeouts.failed) == ("Timeout", "Timeout(#)", 3)
    assert (timeouts.first_at, timeouts.last_at) == (T0 + 0.2, T0 + 2.2)
    assert timeouts.newest[0] == (T0 + 2.2, "t2")
    whole = views.error(timeouts.fault)
    assert whole is not None
    assert whole.versions == {"v0": 2, "v1": 1}
    assert whole.types == {"app.add": 3}
    assert whole.workers == {"opsq@one": 3}
    assert sum(point.failed for point in whole.trend) == 3
    assert Views(store, Cluster(store), clock=ManualClock(T0)).errors() == (latest, timeouts), "kept over a restart"
    assert views.error("unknown") is None


def test_what_makes_failures_the_same() -> None:
    """The emitter's fingerprint, else frames, else the message without its particulars."""
    assert fault_of("E(1)", "tb", "f1") == "f1"
    assert fault_of("E('order 17')", None, None) == fault_of("E('order 18')", None, None)
    assert fault_of("E(1)", None, None) != fault_of("F(1)", None, None)
    assert fault_of(None, None, None) == fault_of("", "", "")
    assert template("KeyError('order 17 of 9')") == "KeyError('order # of #')"
    assert len(template("x" * 10_000)) == 200


def test_a_workflow_is_a_tree_with_a_critical_path() -> None:
    """Root calls a and b; b calls c, which ends last: root, b, c decided when it was done; a had time to spare."""
    store = MemoryStore()
    cluster = Cluster(store)

    def member(uuid: str, at: float, parent: str | None) -> list[Event]:
        said = {"root_id": "root", "parent_id": parent} if parent else {"root_id": "root"}
        return [
            event("task-received", uuid, at, name=f"app.{uuid}", retries=0, **said),
            event("task-started", uuid, at + 0.1),
            event("task-succeeded", uuid, at + 1.0, runtime=0.9),
        ]

    cluster.apply([*member("root", T0, None), *member("a", T0 + 1, "root")], T0 + 3)
    cluster.apply([*member("b", T0 + 1, "root"), *member("c", T0 + 2, "b")[:2]], T0 + 3)
    views = seen(store, cluster, T0 + 3)
    (listed,) = views.workflows()
    assert (listed.root, listed.name, listed.members, listed.exact) == ("root", "app.root", 4, True)
    assert listed.states == {"SUCCESS": 3, "STARTED": 1}
    running = views.workflow("root")
    assert running is not None
    assert not running.done
    cluster.apply(member("c", T0 + 2, "b"), T0 + 4)
    done = seen(store, cluster, T0 + 4).workflow("root")
    assert done is not None
    assert done.done
    assert done.critical == ("root", "b", "c")
    assert done.critical_s == pytest.approx(3.0)
    shown = {node.id: node for node in done.nodes}
    assert done.nodes[0].id == "root"
    assert [shown[id].depth for id in ("root", "a", "b", "c")] == [0, 1, 1, 2]
    assert shown["a"].slack_s == pytest.approx(1.0)
    assert shown["c"].critical
    assert views.workflow("nobody") is None


def test_workflows_of_before_a_restart_are_not_called_exact() -> None:
    """Members may be in the store that were never counted here; the rows still tell everything."""
    store = MemoryStore()
    first = Cluster(store)
    first.apply(life("root", T0), T0)
    first.apply([event("task-received", "a", T0 + 1, root_id="root", parent_id="root")], T0 + 1)
    store.write(first.take())
    second = Cluster(store)
    (listed,) = seen(store, second, T0 + 2).workflows()
    assert (listed.root, listed.states, listed.exact) == ("root", {"SUCCESS": 1, "RECEIVED": 1}, False)
    second.apply([event("task-received", "b", T0 + 9, root_id="root", parent_id="root")], T0 + 9)
    views = seen(store, second, T0 + 9)
    (listed,) = views.workflows()
    assert not listed.exact
    whole = views.workflow("root")
    assert whole is not None
    assert len(whole.nodes) == 3


def test_a_caller_nobody_knows_is_an_anomaly_until_it_is_heard_of() -> None:
    """Counted with the newest examples, and taken back."""
    store = MemoryStore()
    cluster = Cluster(store)
    cluster.apply([event("task-received", "child", T0, parent_id="late", root_id="late")], T0)
    (found,) = seen(store, cluster, T0).anomalies()
    assert (found.kind, found.count, found.newest) == ("unknown parent", 1, ((T0, "child"),))
    again = Cluster(store)
    again.apply(life("late", T0), T0 + 1)
    assert seen(store, again, T0 + 1).anomalies() == ()


def test_the_history_of_a_worker() -> None:
    """Starts, silences, stops; lost after the time the settings say."""
    store = MemoryStore()
    cluster = Cluster(store, Limits(offline_after_s=20.0))

    def beat(at: float, kind: str = "worker-heartbeat", pid: int = 1) -> None:
        one = Event(kind=kind, hostname="w", timestamp=at, pid=pid, fields={"freq": 2.0, "processed": 0})
        cluster.apply([one], at)

    beat(T0, "worker-online")
    beat(T0 + 2)
    assert cluster.workers.status("w", T0 + 2 + 19) == "late"
    assert cluster.workers.status("w", T0 + 2 + 20) == "lost"
    beat(T0 + 60)
    beat(T0 + 61, "worker-online", pid=2)
    said = {"command": "rate_limit", "arguments": "{'task': 'app.add'}", "answer": "{'ok': 1}"}
    for _ in range(2):
        cluster.apply([Event(kind="worker-command", hostname="w", timestamp=T0 + 61.5, pid=2, fields=said)], T0 + 61.5)
    beat(T0 + 62, "worker-offline", pid=2)
    views = seen(store, cluster, T0 + 62)
    assert [(entry.what, entry.at - T0) for entry in reversed(views.worker_history("w"))] == [
        ("started", 0.0), ("silent", 60.0), ("restarted", 61.0), ("command", 61.5), ("stopped", 62.0),
    ]  # fmt: skip
    assert views.worker_history("w")[3].detail == "58"
    assert views.worker_history("nobody") == ()


def test_signals_of_a_queue_and_a_type() -> None:
    """Arrivals, ends and slots by second, percentiles, what the broker said, and when the queue is empty."""
    store = MemoryStore()
    cluster = Cluster(store)
    now = T0 + 60
    for n in range(60):
        cluster.apply(life(f"t{n}", T0 + n, end="task-failed" if n % 10 == 0 else "task-succeeded"), T0 + n + 1)
    cluster.observe_depth(DepthSample("celery", 30, now, unacked=2, oldest_age_s=4.0, consumers=1))
    cluster.apply([], now)
    views = seen(store, cluster, now)
    found = views.queue_signals("celery")
    assert (found.arrived_60_s, found.done_60_s, found.arrived_15_s) == (1.0, 1.0, 1.0)
    assert (found.ready, found.unacked, found.oldest_age_s, found.drain_s) == (30, 2, 4.0, None)
    assert found.failed_share == pytest.approx(0.1)
    assert found.arrivals == (1,) * 60
    assert found.busy_slots == pytest.approx(0.1)
    assert found.run is not None
    assert math.isclose(found.run.p95, 0.1, rel_tol=0.02)
    unknown = views.queue_signals("nobody")
    assert (unknown.ready, unknown.drain_s, unknown.run, unknown.failed_share) == (None, None, None, None)
    assert (drain_s(10, 1.0, 2.0), drain_s(0, 5.0, 0.0), drain_s(5, 2.0, 2.0), drain_s(None, 0, 1)) == (
        10,
        0,
        None,
        None,
    )
