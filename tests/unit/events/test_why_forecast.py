"""When a task starts: the line played against its slots, what a change would do, and since when a type runs longer."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from opsq.events.diagnosis.answers import answer_of, moment, per_s, registered
from opsq.events.diagnosis.case import BROKER, WORKER, Case, Line, Node, Orders, Request, Usual
from opsq.events.diagnosis.forecast import NOTHING, Change, about, forecast, free_times, place_in_line, starts_in
from opsq.events.diagnosis.remedies import remedies_for
from opsq.events.diagnosis.slower import slower
from opsq.events.records import Point, TaskDetail, TaskItem, time_key

NOW = 1_790_000_000.0


def case(
    *, before: int = 0, slots: int = 2, running: tuple[float, ...] = (), where: str = BROKER, **facts: Any
) -> Case:
    """A line of tasks that run 10 s each; running: for how long those in slots have run."""
    requests = tuple(Request(f"r{n}", "t", NOW - for_s) for n, for_s in enumerate(running))
    node = Node(name="w", status="online", consumes=True, slots=slots, answered=True, running=requests, **facts)
    item = TaskItem(key=time_key(NOW - 60), id="mine", state="PENDING", type="t", queue="q")
    return Case(
        now=NOW, task=TaskDetail(item=item, tries=()), nodes=(node,), where=where,
        holder=node if where == WORKER else None,
        line=Line(name="q", ready=before + 1, before=before, mix={"t": before + 1}), orders=Orders(known=True),
        pace={"t": Usual(10.0, 10.0, 12.0)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "slots", "running", "expected"),
    [
        (0, 2, (), 0.0),
        (0, 1, (4.0,), 6.0),
        (1, 1, (4.0,), 16.0),
        (3, 2, (4.0, 0.0), 20.0),
        (4, 2, (4.0, 0.0), 26.0),
    ],
)
def test_the_line_is_given_to_the_slot_that_is_free_first(
    before: int, slots: int, running: tuple[float, ...], expected: float
) -> None:
    assert starts_in(case(before=before, slots=slots, running=running)) == pytest.approx(expected)


def test_a_long_line_is_shared_among_the_slots() -> None:
    played = starts_in(case(before=4_000, slots=4, running=(5.0,) * 4))
    shared = starts_in(case(before=6_000, slots=4, running=(5.0,) * 4))
    assert played == pytest.approx(10_005, rel=0.01)
    assert shared == pytest.approx(15_005, rel=0.01)


def test_what_outlasts_its_type_is_taken_to_last_as_long_again() -> None:
    assert free_times(case(slots=1, running=(11.0,))) == [pytest.approx(1.0)]
    assert free_times(case(slots=1, running=(60.0,))) == [pytest.approx(60.0)]
    told = forecast(case(slots=1, running=(60.0,)))
    assert told is not None
    assert "lasts as long again" in told.basis


def test_more_slots_start_it_sooner_and_the_remedy_says_how_much() -> None:
    waits = case(before=5, slots=1, running=(5.0,))
    assert starts_in(waits) == pytest.approx(55.0)
    assert starts_in(waits, Change(slots=1)) == pytest.approx(25.0)
    grow = next(each for each in remedies_for(waits, "slots-busy", forecast(waits)) if each.act == "worker-grow")
    assert grow.command == "opsq control -d w pool_grow 1"
    assert grow.effects[0].text.replace("\u00a0", " ") == "in ≈ 25 s instead of 55 s"
    assert starts_in(waits, Change(freed="r0")) == pytest.approx(50.0)
    assert starts_in(waits, NOTHING) == starts_in(waits)


def test_what_brings_nothing_is_not_offered() -> None:
    free = case(before=0, slots=2, running=(5.0,))
    assert not [each for each in remedies_for(free, "slots-busy", forecast(free)) if each.act == "worker-grow"]


def test_the_place_is_that_of_the_queue_or_of_the_worker() -> None:
    assert place_in_line(case(before=7)) == (8, 8)
    ready = (Request("a", "t"), Request("mine", "t"))
    held = case(where=WORKER, slots=1, running=(4.0,), reserved=ready)
    assert place_in_line(held) == (2, 2)
    assert starts_in(held) == pytest.approx(16.0)


def test_without_runs_nothing_is_foretold() -> None:
    blind = Case(now=NOW, task=None, line=None, nodes=(), where=BROKER)
    told = forecast(blind)
    assert told is not None
    assert (told.starts_in_s, told.basis) == (None, "no slot is there to wait for")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, 1.0), (9.6, 10.0), (47.3, 47.0), (431.0, 430.0), (1_113.0, 1_140.0), (9_000.0, 9_000.0)]
)
def test_estimates_are_no_finer_than_they_can_be(seconds: float, said: float) -> None:
    assert about(seconds) == said


def test_of_types_that_never_ran_nothing_is_foretold() -> None:
    told = forecast(structs.replace(case(slots=1, running=(4.0,)), pace={}))
    assert told is not None
    assert (told.starts_in_s, told.place) == (None, 1)
    assert told.basis.startswith("no run of these types has been seen")


def points(*means: float) -> list[Point]:
    return [
        Point(at=NOW + 60 * n, width_s=60, succeeded=10 if mean else 0, run_s=mean * 10) for n, mean in enumerate(means)
    ]


def test_the_moment_of_a_change_of_pace_is_found_with_its_deploy() -> None:
    found = slower("t", points(2.7, 2.5, 2.9, 0.0, 24.0, 25.0, 24.8), [(NOW + 200, "v412"), (NOW - 900, "v411")])
    assert found is not None
    assert (found.since_at, found.deploy, round(found.factor)) == (NOW + 240, "v412", 9)
    assert (found.before_s, found.after_s) == (pytest.approx(2.7), pytest.approx(24.6))


@pytest.mark.parametrize("means", [(), (3.0,), (3.0, 3.1, 2.9, 3.0), (24.0, 24.0, 2.7, 2.7)])
def test_a_steady_or_a_faster_type_is_not_slower(means: tuple[float, ...]) -> None:
    assert slower("t", points(*means), []) is None


def test_answers_are_read_as_far_as_they_make_sense() -> None:
    told = answer_of(
        {
            "active": [{"id": "a", "type": "t", "time_start": 12.0}, {"id": 7}, "x"],
            "reserved": "no list",
            "scheduled": [
                {"eta": "2026-11-21T10:00:00+00:00", "request": {"id": "b", "name": "n"}},
                {"eta": None, "request": {"id": "c"}},
            ],
            "registered": ["t [rate_limit=10/m routing_key=x]", "plain", 5, "none [rate_limit=0]"],
            "stats": {"pool": {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 4}},
            "revoked": ["mine"],
        },
        "mine",
    )  # fmt: skip
    assert told.running == (Request("a", "t"),)
    assert told.reserved is None
    assert [one.eta_at is None for one in told.waiting or ()] == [False, True]
    assert told.registered == {"t": "10/m", "plain": None, "none": None}
    assert (told.slots, told.pool, told.ours, told.revoked) == (4, "prefork", False, True)


@pytest.mark.parametrize(
    ("rate", "expected"), [("10/s", 10.0), ("6/m", 0.1), ("5", 5.0), ("0", None), ("x/m", None), (None, None)]
)
def test_rates_are_read(rate: str | None, expected: float | None) -> None:
    assert per_s(rate) == expected


def test_what_is_no_time_is_none() -> None:
    assert moment("soon") is None
    assert moment(5) is None
    assert registered({"no": "list"}) is None
