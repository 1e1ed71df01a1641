"""What a beat says of ticks to come: when, how often, and that it takes back what will not come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from opsq.clock import ManualClock
from opsq.core.beat import orders
from opsq.core.beat.foretell import FREQ_S, HORIZON_S, MOST_ENTRIES, MOST_TICKS, Foreteller, coming
from opsq.core.schedules.entry import Entry, as_data, entry_from
from opsq.core.schedules.state import State
from opsq.errors import UsageError
from opsq.schedules import crontab, schedule
from tests.unit.beat.test_scheduler import Yard, make_yard

__all__ = ["make_yard"]
NOW = 1_750_000_000.0


class Router:
    """Sends everything to one queue; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def route(self, *call: Any) -> Any:
        self.asked += 1
        return self

    queue_name = "mail"


class Desk:
    """A foreteller, its clock, and what it said."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.tasks: Mapping[str, Any] = {}
        self.caller = self
        self.router = Router()
        self.said: list[dict[str, Any]] = []
        self.teller = Foreteller(self, self.clock, lambda kind, fields: self.said.append({"kind": kind, **fields}))
        self.entries: list[tuple[Entry, State, float]] = []

    def add(self, name: str, when: Any, **more: Any) -> State:
        state = State(anchor=NOW)
        self.entries.append((Entry(name, "t", when, **more), state, NOW))
        return state

    def told(self) -> list[dict[str, Any]]:
        self.said.clear()
        self.teller.tell(lambda: self.entries)
        return list(self.said)


def test_it_says_what_is_due_within_the_horizon_and_again_every_few_seconds() -> None:
    desk = Desk()
    desk.add("soon", schedule(HORIZON_S), brings={"mail": 12})
    desk.add("later", schedule(HORIZON_S + 1))
    (told,) = desk.told()
    assert told == {
        "kind": "schedule-due", "name": "soon", "task": "t", "due": [NOW + HORIZON_S], "freq": FREQ_S, "timestamp": NOW,
        "queue": "mail", "brings": {"mail": 12},
    }  # fmt: skip
    assert desk.told() == []
    desk.clock.advance(FREQ_S)
    assert [one["name"] for one in desk.told()] == ["soon", "later"]
    assert desk.router.asked == 2


def test_it_takes_back_what_will_not_come() -> None:
    desk = Desk()
    paused = desk.add("paused", schedule(60))
    claimed = desk.add("claimed", schedule(60))
    assert len(desk.told()) == 2
    desk.entries = [each for each in desk.entries if each[1] is not paused]
    # While the broker is away its tick waits, and the ones after it too.
    claimed.claim = [NOW + 1]
    desk.teller.hurry()
    assert [(one["name"], one["due"]) for one in desk.told()] == [("paused", []), ("claimed", [])]
    claimed.claim = []
    desk.teller.hurry()
    assert [one["name"] for one in desk.told()] == ["claimed"]
    desk.said.clear()
    desk.teller.end()
    desk.teller.end()
    assert [(one["name"], one["due"]) for one in desk.said] == [("claimed", [])]


def test_what_it_says_has_an_end() -> None:
    desk = Desk()
    for number in range(MOST_ENTRIES + 50):
        desk.add(f"e{number}", schedule(60))
    assert len(desk.told()) == MOST_ENTRIES
    assert len(coming(Entry("e", "t", schedule(1)), NOW, NOW)) == MOST_TICKS


def test_the_ticks_to_come_are_those_that_will_be_sent() -> None:
    jittered = Entry("e", "t", schedule(60), jitter_s=30)
    due = coming(jittered, NOW, NOW, 200)
    assert len(due) == 3
    assert all(NOW + 60 * (n + 1) <= at < NOW + 60 * (n + 1) + 30 for n, at in enumerate(due))
    assert coming(Entry("e", "t", crontab("0", "4", tz="UTC")), NOW, NOW) == []
    # Ticks that were missed are the past's.
    assert coming(Entry("e", "t", schedule(60)), NOW - 150, NOW, 60) == [NOW + 30]


def test_a_route_that_fails_leaves_the_queue_out() -> None:
    desk = Desk()
    desk.router = None  # type: ignore[assignment]
    desk.add("e", schedule(60))
    (told,) = desk.told()
    assert "queue" not in told


def test_a_leading_beat_tells_before_it_sends_and_of_every_change(make_yard: Any) -> None:
    yard: Yard = make_yard(e={"schedule": 60})
    scheduler = yard.scheduler()

    def dues() -> list[tuple[str, list[float]]]:
        found = [(fields["name"], fields["due"]) for kind, fields in yard.events if kind == "schedule-due"]
        yard.events.clear()
        return found

    start = yard.clock.now()
    assert 0 < scheduler.tick() <= FREQ_S
    ((name, due),) = dues()
    assert (name, due[0], len(due)) == ("e", start + 60, 10)
    assert yard.sent() == []
    orders.schedule_pause(scheduler, "e")
    scheduler.tick()
    assert dues() == [("e", [])]
    orders.schedule_resume(scheduler, "e")
    orders.schedule_edit(scheduler, "e", schedule="5m", brings="12")
    scheduler.tick()
    assert dues() == [("e", [start + 300, start + 600])]
    assert scheduler.items["e"].entry.brings == 12
    scheduler.end()
    assert dues() == [("e", [])]


@pytest.mark.parametrize("given", [12, 0, {"mail": 12, "sms": 1}, None])
def test_an_entry_says_what_it_brings(given: Any) -> None:
    entry = entry_from("e", {"task": "t", "schedule": crontab("0", tz="UTC"), "brings": given}, _App())
    assert entry.brings == given
    assert as_data(entry)["brings"] == given


@pytest.mark.parametrize("given", [-1, 1.5, True, "many", {"mail": "many"}, [1]])
def test_what_it_brings_is_a_number_of_tasks(given: Any) -> None:
    with pytest.raises(UsageError, match="brings: expected a number of tasks"):
        entry_from("e", {"task": "t", "schedule": crontab("0", tz="UTC"), "brings": given}, _App())


class _App:
    """What an entry asks of an app."""

    timezone = None
    tasks: Mapping[str, Any] = {}
