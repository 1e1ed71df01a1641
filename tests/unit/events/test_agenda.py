"""What the monitor knows of ticks to come: from what beats say, by our clock, with what the last tick brought."""

from __future__ import annotations

import math
from typing import Any

import pytest

from opsq.events.agenda import BROUGHT_S
from opsq.events.cluster import Cluster
from opsq.events.store import MemoryStore
from opsq.events.ticks import MOST_ENTRIES
from opsq.events.views import Views
from opsq.wire.event import Event
from opsq.wire.schedule_hint import AHEAD_S, KEPT, Upcoming, hint_of, upcoming

T0 = 1_790_000_000.0
FREQ_S = 10.0


class Watch:
    """A monitor that hears beats, and the clock by which it does."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.cluster = Cluster(self.store)
        self.views = Views(self.store, self.cluster)
        self.now = T0
        self.seq = 0

    def says(self, *due_in_s: float, host: str = "beat@a", skew_s: float = 0.0, **fields: Any) -> None:
        at = self.now + skew_s
        self.seq += 1
        told = {"name": "nightly", "task": "t", "queue": "mail", "freq": FREQ_S, "due": [at + s for s in due_in_s]}
        event = Event(
            kind="schedule-due", hostname=host, timestamp=at, seq=self.seq, emitter=f"of {host}", fields=told | fields
        )
        self.cluster.apply([event], self.now)

    def runs(self, id: str, root: str, queue: str, at: float) -> None:
        fields = {"name": "t", "queue": queue, "root_id": root}
        event = Event(kind="task-sent", hostname="c@h", timestamp=at, uuid=id, fields=fields)
        self.cluster.apply([event], self.now)
        self.store.write(self.cluster.take())

    def sees(self, *queues: str) -> list[tuple[str, float, float]]:
        return [(one.name, round(one.in_s, 3), one.tasks) for one in self.views.upcoming(queues or ("mail",), self.now)]


def test_a_tick_to_come_is_that_of_the_groups_that_consume_its_queue() -> None:
    watch = Watch()
    watch.says(40.0, 100.0)
    watch.says(50.0, name="sms", queue="sms", brings={"sms": 7})
    watch.says(60.0, name="split", brings={"mail": 12, "sms": 3})
    watch.says(70.0, name="anywhere", queue=None)
    assert watch.sees("mail") == [("nightly", 40, 1), ("split", 60, 12), ("nightly", 100, 1)]
    assert watch.sees("sms") == [("sms", 50, 7), ("split", 60, 3)]
    assert watch.sees("other") == []
    watch.now += 45.0
    watch.says(55.0)
    assert watch.sees("mail") == [("nightly", 55, 1)]


def test_a_beat_that_is_gone_scales_nothing() -> None:
    watch = Watch()
    watch.says(300.0)
    watch.now += KEPT * FREQ_S
    assert watch.sees() == [("nightly", 300 - KEPT * FREQ_S, 1)]
    watch.now += 0.1
    assert watch.sees() == []
    watch.says(200.0)
    watch.says()
    assert watch.sees() == []


@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
def test_a_clock_that_is_off_scales_nothing_until_it_is_known_how_far(skew_s: float) -> None:
    watch = Watch()
    watch.says(40.0, skew_s=skew_s)
    assert watch.sees() == []
    for _ in range(5):
        watch.now += 1.0
        watch.says(40.0, skew_s=skew_s)
    assert watch.sees() == [("nightly", 40, 1)]


def test_of_two_beats_the_one_that_spoke_last_counts() -> None:
    watch = Watch()
    watch.says(40.0, host="beat@a")
    watch.now += 5.0
    watch.says(10.0, host="beat@b")
    assert watch.sees() == [("nightly", 10, 1)]
    watch.now += 1.0
    watch.says(host="beat@a")
    assert watch.sees() == []


def test_of_one_beat_the_later_number_counts_whatever_comes_first() -> None:
    watch = Watch()
    watch.says(40.0)
    early = next(iter(watch.cluster.tally.ticks.hints.values()))
    watch.now += 1.0
    watch.says(90.0)
    watch.seq = early.seq - 1
    watch.says(40.0)
    assert watch.sees() == [("nightly", 90, 1)]


def test_an_entry_brings_what_its_last_tick_brought() -> None:
    watch = Watch()
    watch.says(40.0, last_id="call", last_at=T0 - 1.0)
    for number in range(12):
        watch.runs(f"c{number}", "call", "mail" if number else "sms", T0)
    # A moment after the tick nobody can say how much comes of it.
    assert watch.sees() == [("nightly", 40, 1)]
    watch.now += BROUGHT_S
    watch.runs("step two", "call", "mail", watch.now)
    assert watch.sees("mail") == [("nightly", 35, 12)]
    assert watch.sees("sms") == [("nightly", 35, 1)]
    watch.now += 2.0
    watch.says(60.0, last_id="next", last_at=watch.now)
    assert watch.sees("mail") == [("nightly", 60, 12)]
    watch.says(60.0, last_id="next", last_at=watch.now, brings={"mail": 2})
    assert watch.sees("mail") == [("nightly", 60, 2)]


def test_hints_are_bounded_and_what_cannot_be_read_is_none() -> None:
    watch = Watch()
    for number in range(MOST_ENTRIES + 3):
        watch.says(40.0, name=f"e{number}")
    hints = watch.cluster.tally.ticks.hints
    assert len(hints) == MOST_ENTRIES
    assert ("beat@a", "e0") not in hints
    assert watch.cluster.tally.ticks.entries == {}
    for wrong in ({"due": "soon"}, {"freq": "often"}, {"name": 3}, {"name": ""}, {"freq": math.nan}):
        fields = {"name": "e", "due": [1.0], "freq": 1.0, **wrong}
        assert hint_of(Event(kind="schedule-due", hostname="h", timestamp=T0, fields=fields)) is None


def test_a_worker_takes_its_part() -> None:
    fields = {
        "name": "e",
        "due": [T0 + 9.0, -1, "x", True, T0 + 8.0],
        "freq": 1.0,
        "queue": "mail",
        "brings": {"mail": 12, 3: 4},
    }
    hint = hint_of(Event(kind="schedule-due", hostname="h", timestamp=T0, fields=fields))
    assert hint is not None
    assert upcoming([hint], {"mail": 0.25}, T0) == (Upcoming("e", 8.0, 3.0), Upcoming("e", 9.0, 3.0))
    assert upcoming([hint], {"mail": 1.0}, T0 - AHEAD_S - 0.1) == ()
