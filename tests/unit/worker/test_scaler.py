"""A worker that scales itself: up with the load, down after it, never at the cost of a task."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from opsq import Opsq
from opsq.autoscale.decision import Decision, History
from opsq.autoscale.gauge import GaugeReader
from opsq.autoscale.observation import Observation
from opsq.autoscale.policy import decide
from opsq.autoscale.presets import Limits, Preset
from opsq.cli.scaling import let_scale, scheduled_floor
from opsq.clock import ManualClock
from opsq.core.worker.scaler import Scaler
from opsq.core.worker.scaler_step import ANNOUNCED, ScalerStep
from opsq.errors import ConfigError, StartError
from opsq.testing.harness import running_worker
from tests.conftest import MakeApp
from tests.unit.worker.test_worker_control import PATIENCE_S, until
from tests.unit.worker.test_worker_events import listening

HASTY = Preset(name="hasty", hold_s=0.1, idle_price=0.0)
LIMITS = Limits(fewest=1, most=4, startup_s=0.01, tick_s=0.1, slo_s=1.0, preset=HASTY)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture
def shop(make_app: MakeApp, gate: threading.Event) -> Opsq:
    app = make_app(worker_mingle=False)

    @app.task(name="shop.hold")
    def hold() -> None:
        gate.wait(PATIENCE_S)

    return app


def scaled(app: Opsq, **options: object) -> ScalerStep:
    step = ScalerStep(decide, LIMITS, **options)  # type: ignore[arg-type]
    app.steps["worker"].add(step)
    return step


def test_up_with_the_load_and_down_after_it(shop: Opsq, gate: threading.Event) -> None:
    scaled(shop)
    with listening(shop) as ear, running_worker(shop, pool="threads", concurrency=1) as worker:
        pool = worker.worker.plan.pool
        assert pool is not None
        calls = [shop.send_task("shop.hold") for _ in range(12)]
        until(lambda: pool.slots == 4 and len(pool.running()) == 4)
        gate.set()
        for call in calls:
            worker.wait("settled", call.id)
        until(lambda: pool.slots == 1)
        grown = ear.wait(ANNOUNCED)
        until(lambda: any(each.fields["target"] == 1 for each in ear.events if each.kind == ANNOUNCED))
    assert worker.counters["SUCCESS"] == 12
    assert grown.fields["group"] == worker.worker.hostname
    assert grown.fields["queues"] == ["celery"]
    assert {name for name, *_ in grown.fields["bounds"]} >= {"steady", "useful"}
    assert {signal[1] for signal in grown.fields["signals"]} >= {"waiting", "arrive", "run"}
    assert grown.fields["text"]


def test_remote_control_moves_the_bounds(shop: Opsq) -> None:
    scaled(shop)
    with running_worker(shop, pool="threads", concurrency=1, hostname="w1@here") as worker:
        worker.wait("listening")
        control = shop.control

        def order(command: str, **arguments: object) -> object:
            answers = control.broadcast(command, arguments, ["w1@here"], reply=True, timeout=PATIENCE_S)
            assert answers is not None
            return answers[0]["w1@here"]

        assert order("autoscale", max=9, min=3) == {"ok": "autoscale now max=9 min=3"}
        pool = worker.worker.plan.pool
        assert pool is not None
        until(lambda: pool.slots == 3)
        assert "Adjust autoscale range" in str(order("pool_grow", n=1))
        assert "expected 0 ≤ min ≤ max" in str(order("autoscale", max=1, min=3))
        stats = order("stats")
        assert isinstance(stats, dict)
        assert stats["autoscaler"] == {"max": 9, "min": 3, "current": 3, "qty": 0}


def test_a_dry_run_changes_nothing_and_tells(shop: Opsq, gate: threading.Event) -> None:
    scaled(shop, dry=True)
    with listening(shop) as ear, running_worker(shop, pool="threads", concurrency=1) as worker:
        for _ in range(12):
            shop.send_task("shop.hold")
        until(lambda: any(each.fields["target"] > 1 for each in ear.events if each.kind == ANNOUNCED))
        told = [each for each in ear.events if each.kind == ANNOUNCED]
        pool = worker.worker.plan.pool
        assert pool is not None
        assert pool.slots == 1
        assert {each.fields["mode"] for each in told} == {"dry"}
        assert {each.fields["applied"] for each in told} == {1}
        gate.set()


def test_a_silent_broker_leaves_the_worker_with_what_it_holds(shop: Opsq, gate: threading.Event) -> None:
    step = scaled(shop)
    with running_worker(shop, pool="threads", concurrency=1) as worker:
        scaler = worker.worker.plan.scaler
        assert isinstance(scaler, Scaler)
        until(lambda: scaler.last is not None and scaler.last.mode == "live")
        assert step.depths is not None
        assert step.depths.stop(PATIENCE_S)
        until(lambda: scaler.last is not None and scaler.last.mode == "local")
        for _ in range(3):
            shop.send_task("shop.hold")
        pool = worker.worker.plan.pool
        assert pool is not None
        until(lambda: len(pool.running()) >= 1)
        gate.set()
        assert scaler.last is not None
        assert scaler.last.target >= 1


def test_a_pool_of_one_slot_is_refused_at_boot(shop: Opsq) -> None:
    scaled(shop)
    with pytest.raises(StartError) as caught, running_worker(shop, pool="solo"):
        raise AssertionError("it started")
    assert "the solo pool has a fixed size, so it cannot be autoscaled" in str(caught.value.__cause__)


def test_the_users_own_measure_is_followed_up_and_down(shop: Opsq) -> None:
    wanted = [3.0]
    scaled(shop, gauges=GaugeReader(lambda: wanted[0], 1.0, 0.05))
    with running_worker(shop, pool="threads", concurrency=1) as worker:
        pool = worker.worker.plan.pool
        assert pool is not None
        until(lambda: pool.slots == 3)
        wanted[0] = 4.0
        until(lambda: pool.slots == 4)
        wanted[0] = 1.0
        until(lambda: pool.slots == 1)


def test_a_measure_that_does_not_come_holds() -> None:
    clock = ManualClock()

    def broken() -> float:
        raise OSError("no answer")

    reader = GaugeReader(broken, 1.0, 1.0, clock)
    clock.advance(10.0)
    with pytest.raises(OSError, match="no answer"):
        reader.step()
    gauge = reader.read()
    assert (gauge.value, gauge.age_s) == (None, 10.0)
    seen = Observation(at=10.0, have=3, gauge=gauge)
    assert decide(seen, History(), LIMITS).mode == "blind"
    with pytest.raises(ValueError, match="a number from 0"):
        GaugeReader(lambda: -1.0, 1.0, 1.0, clock).step()


def test_a_policy_of_ones_own(shop: Opsq) -> None:
    def always(seen: Observation, history: History, limits: Limits) -> Decision:
        return Decision(at=seen.at, have=seen.have, target=2, want=2, mode="live", bounds=(), winner="two")

    shop.steps["worker"].add(ScalerStep(always, LIMITS))
    with running_worker(shop, pool="threads", concurrency=1) as worker:
        pool = worker.worker.plan.pool
        assert pool is not None
        until(lambda: pool.slots == 2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"autoscale_policy": "nobody"}, "there is no policy 'nobody'"),
        ({"autoscale_waits": {"mail": 0}}, "expected seconds above 0 for mail"),
        ({"autoscale_connections": {"limits": 3}}, "expected limit, per_slot, reserve"),
        ({"autoscale_signal": "no.such.module:x"}, "no.such.module"),
        ({"autoscale_schedule": {"* 25 * * *": 4}}, "autoscale_schedule"),
        ({"autoscale_schedule": {"* * * * *": "many"}}, "many"),
    ],
)
def test_wrong_settings_are_said_at_boot(make_app: MakeApp, settings: dict[str, object], said: str) -> None:
    app = make_app(autoscale_max_slots=4, **settings)
    with pytest.raises(ConfigError, match=said):
        let_scale(app, app.settings)


def test_settings_start_with_the_fewest_slots(make_app: MakeApp) -> None:
    app = make_app(autoscale_max_slots=8, autoscale_min_slots=2, autoscale_wait=30.0, autoscale_waits={"mail": 2})
    assert let_scale(app, app.settings) == 2
    (step,) = app.steps["worker"]
    assert isinstance(step, ScalerStep)
    limits = step.limits
    assert (limits.fewest, limits.most, limits.slo_s, limits.target("mail").slo_s) == (2, 8, 30.0, 2.0)
    assert let_scale(make_app(), make_app().settings) is None


def test_a_schedule_asks_for_slots_in_its_minutes(make_app: MakeApp) -> None:
    app = make_app(autoscale_schedule={"* 8-17 * * mon-fri": 4, "30 * * * *": 9}, timezone="UTC")
    floor = scheduled_floor(app.settings, app)
    noon, evening = datetime(2026, 11, 20, 12, 0, tzinfo=UTC), datetime(2026, 11, 20, 20, 30, tzinfo=UTC)
    assert (floor(noon.timestamp()), floor(evening.timestamp())) == (4, 9)
    assert floor(datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()) == 0
