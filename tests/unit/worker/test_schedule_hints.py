"""Slots ahead of a schedule: a beat says what is due, and a worker that scales itself has slots by then."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from opsq import Opsq
from opsq.autoscale.decision import Decision, History
from opsq.autoscale.observation import Observation
from opsq.autoscale.policy import decide
from opsq.autoscale.presets import Limits
from opsq.broker.message import Delivery
from opsq.core.beat.service import Beat
from opsq.core.worker.scaler_hints import MOST, HintEars
from opsq.core.worker.scaler_step import ANNOUNCED, ScalerStep
from opsq.settings import Settings
from opsq.testing.harness import running_worker
from tests.conftest import MakeApp
from tests.servers import RedisServer
from tests.unit.worker.test_worker_control import PATIENCE_S
from tests.unit.worker.test_worker_events import listening

ENTRIES = 6
EVERY_S = 4.0
#: From ``startup_s`` and two ticks before the entries are due, a decision asks for their slots: here as soon as it can.
LIMITS = Limits(fewest=1, most=8, startup_s=3.6, tick_s=0.2, slo_s=1.0)


class Site:
    """One app whose entries are due together, and the slots that each of their tasks found."""

    def __init__(self, make_app: MakeApp, **settings: Any) -> None:
        self.app: Opsq = make_app(worker_mingle=False, **settings)
        self.found: list[int] = []
        self.all_here = threading.Event()
        self.slots: Any = None
        self.app.task(self._nap, name="shop.nap", ignore_result=True)
        self.app.conf.beat_schedule = {f"e{n}": {"task": "shop.nap", "schedule": EVERY_S} for n in range(ENTRIES)}
        self.decided: list[Decision] = []
        self.step = ScalerStep(self._decide, LIMITS)
        self.app.steps["worker"].add(self.step)

    def _decide(self, seen: Observation, history: History, limits: Limits) -> Decision:
        self.decided.append(decide(seen, history, limits))
        return self.decided[-1]

    def _nap(self) -> None:
        self.found.append(self.slots())
        if len(self.found) >= ENTRIES:
            self.all_here.set()
        # Nobody leaves before everybody is here: with fewer slots than entries they would wait for more.
        self.all_here.wait(PATIENCE_S)

    def run(self) -> None:
        """Until every entry was sent once and found its slot."""
        with running_worker(self.app, pool="threads", concurrency=1) as worker:
            pool, hints = worker.worker.plan.pool, self.step.hints
            assert pool is not None
            assert hints is not None
            self.slots = lambda: pool.slots
            assert hints.listening.wait(PATIENCE_S)
            beat = Beat(self.app)
            beat.start()
            try:
                assert self.all_here.wait(PATIENCE_S), self.found
            finally:
                beat.stop()


def test_slots_are_there_when_the_tasks_come(make_app: MakeApp) -> None:
    site = Site(make_app)
    with listening(site.app) as ear:
        site.run()
        tick = ear.wait("schedule-tick")
        told = ear.wait("schedule-due")
    assert site.found[0] >= ENTRIES
    assert told.fields["due"][0] == pytest.approx(tick.fields["due_at"])
    assert told.fields["queue"] == "celery"
    grown = next(each for each in ear.events if each.kind == ANNOUNCED and each.fields["target"] >= ENTRIES)
    assert grown.fields["winner"] == "due"
    assert grown.timestamp < tick.fields["due_at"]
    assert "`e0` and 5 more are due from" in grown.fields["text"]
    assert ["e0", "due_tasks", 1.0, "tasks", 0.0] in grown.fields["signals"]


def test_slots_are_there_on_redis(make_app: MakeApp, redis: RedisServer) -> None:
    site = Site(make_app, broker_url=redis.url)
    site.run()
    assert site.found[0] >= ENTRIES


def test_without_hints_they_come_after_the_tasks(make_app: MakeApp) -> None:
    site = Site(make_app, worker_send_task_events=False)
    site.run()
    assert "due" not in {one.winner for one in site.decided}
    assert max(site.found) >= ENTRIES


def test_what_cannot_be_read_says_nothing_and_names_have_an_end() -> None:
    ears = HintEars(Settings())

    def says(body: str) -> None:
        ears.receive([Delivery(body.encode(), "application/json", "utf-8", {}, {}, "celeryev", "schedule.due", 0)])

    says("no json")
    says('{"type": "schedule-due", "hostname": "beat@h", "timestamp": 1.0, "name": "e"}')
    says('{"type": "schedule-due", "hostname": "beat@h", "timestamp": 1.0, "name": "e", "due": "soon", "freq": 10}')
    assert ears.heard() == ()
    for number in range(MOST + 5):
        due = '"due": [2, "x", -1], "freq": 10'
        says(f'{{"type": "schedule-due", "hostname": "beat@h", "timestamp": 1.0, "name": "e{number}", {due}}}')
    assert len(ears.heard()) == MOST
    assert ears.heard()[-1].due == (2.0,)
