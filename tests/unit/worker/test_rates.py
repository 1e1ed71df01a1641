"""Rates: what one gate lets through over half a minute, and what a change at run time does."""

from __future__ import annotations

from typing import Any

import pytest

from opsq import Opsq
from opsq.core.worker.hold import CATCH_UP_S, RateGate, parse_rate
from opsq.testing.harness import running_worker
from tests.conftest import MakeApp
from tests.promises import within

SPAN_S = 30.0


def passed(gate: RateGate, ticks: list[float]) -> list[float]:
    """The moments at which keys pass, when the gate is looked at at these moments."""
    return [at for at in ticks for _ in gate.due(at)]


def every(step_s: float, until_s: float = SPAN_S) -> list[float]:
    return [n * step_s for n in range(int(until_s / step_s) + 1)]


def full(per_s: float, keys: int = 100_000) -> RateGate:
    gate = RateGate(per_s)
    for key in range(keys):
        gate.take(key, 0.0)
    return gate


@pytest.mark.parametrize("text", ["10/s", "600/m", "36000/h", 10, "10"])
@pytest.mark.parametrize("step_s", [0.001, 0.0137, 0.03])
def test_a_rate_holds_however_late_the_ticks_are(text: Any, step_s: float) -> None:
    moments = passed(full(parse_rate(text)), every(step_s))
    assert len(moments) / SPAN_S == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize(("per_s", "step_s"), [(100, 0.023), (1000, 0.013), (1000, 0.04)])
def test_a_rate_above_that_of_the_ticks_holds_too(per_s: float, step_s: float) -> None:
    moments = passed(full(per_s), every(step_s))
    assert len(moments) / SPAN_S == pytest.approx(per_s, rel=0.01)


def test_a_long_pause_is_not_made_up_for() -> None:
    gate = full(100)
    assert len(gate.due(10.0)) <= 100 * CATCH_UP_S + 1
    assert len(gate.due(10.001)) <= 1


def test_a_changed_rate_counts_from_the_last_that_passed() -> None:
    gate = full(0.1)
    gate.set_rate(10)
    assert gate.due(0.09) == []
    assert gate.due(0.1) == [1]
    gate.set_rate(1)
    assert gate.wait_s(0.1) == pytest.approx(1.0)
    for _ in range(10):
        gate.set_rate(1)
    assert gate.due(1.0) == [], "changing it again and again must not let anything through"
    gate.set_rate(0)
    assert len(gate.due(1.0)) == 100_000 - 2
    assert gate.take(7, 1.0)


@pytest.mark.parametrize("way", ["option", "annotation", "default", "run time"])
def test_each_way_to_set_a_rate(make_app: MakeApp, way: str) -> None:
    settings: dict[str, Any] = {
        "annotation": {"task_annotations": {"shop.slow": {"rate_limit": "36000/h"}}},
        "default": {"task_default_rate_limit": "600/m"},
    }.get(way, {})
    app = make_app(worker_mingle=False, **settings)
    options = {"option": {"rate_limit": "10/s"}, "run time": {"rate_limit": "1/h"}}.get(way, {})

    @app.task(name="shop.slow", **options)
    def slow() -> None:
        """Only its start counts."""

    with running_worker(app, pool="threads", concurrency=2, hostname="w1@here") as worker:
        worker.wait("listening")
        for _ in range(8):
            slow.delay()
        if way == "run time":
            worker.wait("received", times=8)
            assert len(worker.seen("started")) <= 1
            answers = app.control.rate_limit("shop.slow", "10/s", ["w1@here"], reply=True, timeout=30)
            assert answers == [{"w1@here": {"ok": "new rate limit set successfully"}}]
        worker.wait("settled", times=8)
        outcomes = [each.detail for each in worker.seen("settled")]
    starts = sorted(outcome.started_at for outcome in outcomes)
    # 0.6 s, but for what a loaded machine takes to start the one or the other.
    assert 0.4 < starts[7] - starts[1] < within(2.0)


def test_switching_a_rate_off_releases_what_waits(app: Opsq) -> None:
    @app.task(name="shop.slow", rate_limit="1/h")
    def slow() -> None:
        """Waits for its rate."""

    with running_worker(app, pool="threads", concurrency=2, hostname="w1@here") as worker:
        worker.wait("listening")
        for _ in range(5):
            slow.delay()
        worker.wait("received", times=5)
        found = app.control.inspect(["w1@here"], timeout=30).scheduled()["w1@here"]
        assert [each["eta"] for each in found] == [None] * 4
        answers = app.control.rate_limit("shop.slow", 0, ["w1@here"], reply=True, timeout=30)
        assert answers == [{"w1@here": {"ok": "rate limit disabled successfully"}}]
        worker.wait("settled", times=5)


def test_a_time_limit_set_at_run_time_holds_for_what_waits_and_comes(app: Opsq) -> None:
    @app.task(name="shop.slow", rate_limit="1/h")
    def slow() -> None:
        """Waits for its rate."""

    with running_worker(app, pool="asyncio", concurrency=2, hostname="w1@here") as worker:
        worker.wait("listening")
        sent = [slow.delay() for _ in range(2)]
        own = slow.apply_async(time_limit=9)
        worker.wait("received", times=3)
        app.control.time_limit("shop.slow", 3, 4, ["w1@here"], reply=True, timeout=30)
        limits = {each.headers.id: each.job for each in worker.worker.ledger.entries.values()}
        assert (limits[sent[1].id].soft_limit_s, limits[sent[1].id].hard_limit_s) == (3, 4)
        assert (limits[own.id].soft_limit_s, limits[own.id].hard_limit_s) == (3, 9)
