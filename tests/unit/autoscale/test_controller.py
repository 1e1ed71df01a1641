"""Groups scaled from the monitor: what it sees, who acts of two, and what a target that refuses costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from opsq.autoscale.controller import Controller, Scaling
from opsq.autoscale.explain import decided_by, reason
from opsq.autoscale.fleet_sight import Served, Standing, moments, observe, served
from opsq.autoscale.groups import Group, groups_of, limits_for, shared_queues
from opsq.autoscale.policy import decide
from opsq.autoscale.presets import Limits, Preset
from opsq.autoscale.targets import CannotScale, FleetTarget, NoTarget, Size, Target, shares
from opsq.clock import ManualClock
from opsq.errors import ConfigError
from opsq.events import sketch
from opsq.events.cluster import Cluster
from opsq.events.decisions import item_of, row_of
from opsq.events.query import Query
from opsq.events.records import DepthSample
from opsq.events.store import MemoryStore
from opsq.events.views import Views
from opsq.settings import Settings
from opsq.wire.event import Event

T0 = 1_790_000_000.0
HASTY = Preset(name="hasty", hold_s=1.0, idle_price=0.0)
LIMITS = Limits(fewest=2, most=20, startup_s=1.0, slo_s=5.0, preset=HASTY)
MAIL = Group(queues=("mail",), min=2, max=20, target="fleet")


class Fleet:
    """Two workers that say what remote control made of them, and the load of a queue."""

    def __init__(self) -> None:
        self.clock = ManualClock(T0)
        self.store = MemoryStore()
        self.cluster = Cluster(self.store)
        self.views = Views(self.store, self.cluster, clock=self.clock)
        self.query = Query(self.store, self.cluster, clock=self.clock)
        self.slots = {"w1": 1, "w2": 1}
        self.told: list[Event] = []
        self.orders: list[tuple[str, dict[str, Any], str]] = []
        self.refusal: str | None = None
        self.tasks = 0

    def order(self, command: str, arguments: Mapping[str, Any], nodes: Sequence[str], number: int) -> Mapping[str, Any]:
        (node,) = nodes
        self.orders.append((command, dict(arguments), node))
        if self.refusal is not None:
            return {node: {"error": self.refusal}} if self.refusal else {}
        self.slots[node] += arguments["n"] if command == "pool_grow" else -arguments["n"]
        return {node: {"ok": "done"}}

    def passes(self, seconds: int, per_s: int = 0, waiting: int = 0) -> None:
        """Time in which so many tasks of half a second are sent and run, and so many wait."""
        for _ in range(seconds):
            self.clock.advance(1.0)
            now = self.clock.now()
            batch = [self._beat(name, now) for name in self.slots]
            for _ in range(per_s):
                self.tasks += 1
                batch += self._life(f"t{self.tasks}", now - 0.6)
            self.cluster.observe_depth(DepthSample("mail", waiting, now, 0, 1.0 if waiting else None, 2))
            self.cluster.apply(batch, now)
            self.store.write(self.cluster.take())

    def _beat(self, name: str, now: float) -> Event:
        said = {"slots": self.slots[name], "busy": 1, "processed": 9, "queues": ["mail"], "freq": 2.0}
        return Event(kind="worker-heartbeat", hostname=name, timestamp=now, pid=1, fields=said)

    def _life(self, uuid: str, at: float) -> list[Event]:
        course = {"name": "mail.send", "queue": "mail", "attempt": 1, "started_at": at, "finished_at": at + 0.5}
        ended = {**course, "published_at": at, "delivered_at": at, "slot_at": at, "runtime": 0.5, "result": "1"}
        return [
            Event(
                kind="task-sent", hostname="c", timestamp=at, uuid=uuid, fields={"name": "mail.send", "queue": "mail"}
            ),
            Event(kind="task-succeeded", hostname="w1", timestamp=at + 0.5, uuid=uuid, fields=ended),
        ]

    def controller(self, holder: str, target: Target | None = None, **options: Any) -> tuple[Controller, Scaling]:
        scaling = Scaling("mail", MAIL, LIMITS, target or FleetTarget(self.order))
        made = Controller(
            [scaling],
            decide,
            self.views,
            self.query.workers,
            self.store,
            self.told.extend,
            holder,
            self.clock,
            **options,
        )
        return made, scaling


def test_it_sees_what_the_events_tell() -> None:
    fleet = Fleet()
    fleet.passes(65, per_s=4, waiting=30)
    ours = served(MAIL, fleet.query.workers())
    assert (ours.slots, ours.busy, [one.name for one in ours.workers]) == (2, 2, ["w1", "w2"])
    seen = observe(MAIL, fleet.views, LIMITS, Standing(at=1.0, now=fleet.clock.now(), have=2, running=2))
    (queue,) = seen.queues
    assert queue.depth == 30
    assert queue.rate == pytest.approx(4.0, rel=0.1)
    assert queue.service_s == pytest.approx(0.5, rel=0.05)
    assert queue.ages[0] == 1.0
    assert seen.age_s < 2.0


def test_what_is_due_soon_has_its_slots_before_and_is_named() -> None:
    fleet = Fleet()
    controller, _ = fleet.controller("m1")
    fleet.passes(5)
    controller.step()
    told = {"name": "nightly", "queue": "mail", "due": [fleet.clock.now() + 2.0], "freq": 10.0, "brings": {"mail": 40}}
    fleet.cluster.apply(
        [Event(kind="schedule-due", hostname="beat@a", timestamp=fleet.clock.now(), fields=told)], fleet.clock.now()
    )
    controller.step()
    # Forty tasks of half a second, or of a second as long as that is not known, within four.
    assert sum(fleet.slots.values()) >= 10
    row = row_of(fleet.told[-1])
    assert row is not None
    record = item_of(row)
    assert (record.winner, decided_by(record)) == ("due", "schedule")
    assert reason(record) == "nightly is due in 2 s with 40 tasks"
    assert [(one.queue, one.name, one.value) for one in record.signals if one.name.startswith("due")] == [
        ("nightly", "due_in", 2.0),
        ("nightly", "due_tasks", 40.0),
    ]


def test_the_fleet_grows_and_shrinks_with_its_load() -> None:
    fleet = Fleet()
    controller, _ = fleet.controller("m1")
    fleet.passes(5)
    controller.step()
    assert sum(fleet.slots.values()) == 2
    fleet.passes(10, per_s=20, waiting=120)
    controller.step()
    grown = sum(fleet.slots.values())
    assert grown > 8
    assert abs(fleet.slots["w1"] - fleet.slots["w2"]) <= 1
    for _ in range(80):
        fleet.passes(1)
        controller.step()
    assert sum(fleet.slots.values()) == 2
    told = [event.fields for event in fleet.told]
    assert {one["group"] for one in told} == {"mail"}
    assert any(one["target"] == grown and one["have"] == 2 for one in told)
    assert any(one["target"] < one["have"] for one in told)
    assert all(one["text"] for one in told)


def test_of_two_controllers_one_acts() -> None:
    fleet = Fleet()
    first, _ = fleet.controller("m1")
    second, _ = fleet.controller("m2")
    fleet.passes(5)
    first.step()
    second.step()
    fleet.passes(10, per_s=20, waiting=120)
    second.step()
    assert fleet.orders == []
    modes = {event.hostname: event.fields["mode"] for event in fleet.told}
    assert modes == {"m1": "live", "m2": "dry"}
    assert first.stop(1.0)
    second.step()
    assert fleet.orders, "the second one leads once the first has gone"


def test_a_dry_controller_never_asks_for_the_lease() -> None:
    fleet = Fleet()
    dry, _ = fleet.controller("m1", dry=True)
    fleet.passes(10, per_s=20, waiting=120)
    dry.step()
    assert fleet.orders == []
    assert fleet.store.lease("autoscale", "m2", 1.0)
    assert fleet.told[-1].fields["target"] > 2
    assert fleet.told[-1].fields["applied"] == 2


def test_a_target_that_refuses_is_tried_again_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet()
    fleet.refusal = ""
    controller, scaling = fleet.controller("m1")
    fleet.passes(10, per_s=20, waiting=120)
    controller.step()
    assert "no answer" in scaling.failing
    assert len(fleet.told) == 1
    fleet.refusal = None
    fleet.passes(1, per_s=20, waiting=120)
    controller.step()
    assert scaling.failing == ""
    assert sum(fleet.slots.values()) > 2


def test_a_worker_that_scales_itself_gets_its_share_as_bounds() -> None:
    fleet = Fleet()
    fleet.refusal = "pool_grow is not supported with autoscale. Adjust autoscale range instead."
    fleet.passes(1)
    with pytest.raises(CannotScale, match="w1"):
        FleetTarget(fleet.order).resize(6, served(MAIL, fleet.query.workers()))
    assert ("autoscale", {"max": 3, "min": 3}, "w1") in fleet.orders


def test_nobody_there_cannot_be_scaled() -> None:
    with pytest.raises(CannotScale, match="no worker"):
        FleetTarget(lambda *_: {}).resize(3, Served(0, 0, ()))
    assert NoTarget().size(Served(7, 1, ())) == Size(7)


def test_depths_that_nobody_reads_hold() -> None:
    fleet = Fleet()
    fleet.passes(65, per_s=4)
    controller, _ = fleet.controller("m1")
    fleet.clock.advance(30.0)  # the broker is silent
    controller.step()
    assert fleet.orders == []
    assert fleet.told[-1].fields["mode"] == "blind"


def test_shares_are_even_and_nobody_gets_none() -> None:
    fleet = Fleet()
    fleet.passes(1)
    workers = served(MAIL, fleet.query.workers()).workers
    assert sorted(shares(7, workers).values()) == [3, 4]
    assert shares(0, workers) == {"w1": 1, "w2": 1}


def test_moments_of_a_sketch() -> None:
    held: dict[int, int] = {sketch.index(1.0): 3, sketch.index(3.0): 1}
    mean, spread = moments(held, 60.0)
    assert mean == pytest.approx(1.5, rel=0.05)
    assert spread == pytest.approx(0.33, rel=0.1)
    assert moments({}, 1.0) == (None, 1.0)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"queues": []}, "at least one queue"),
        ({"queues": ["a"], "min": 5, "max": 2}, "min ≤ max"),
        ({"queues": ["a"], "target": "moon"}, "expected none, fleet or kubernetes"),
        ({"queues": ["a"], "target": "kubernetes"}, "scales: expected deployment"),
        ({"queues": ["a"], "maxx": 2}, "unknown field"),
    ],
)
def test_groups_that_cannot_be(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        groups_of(Settings(autoscale_groups={"mail": told}))


def test_replicas_are_whole_units() -> None:
    group = msgspec.convert({"queues": ["a"], "min": 3, "max": 16, "slots_per_replica": 4, "scales": "deployment/w",
                             "target": "kubernetes"}, Group)  # fmt: skip
    limits = limits_for(group, Settings())
    assert (limits.fewest, limits.unit, limits.startup_s) == (4, 4, 45.0)
    assert shared_queues({"one": MAIL, "two": MAIL}) == ["mail"]
