"""Errors that were muted: told by the audit alone, over for themselves, the same on every monitor of one history."""

from __future__ import annotations

from opsq.clock import ManualClock
from opsq.events.store import MemoryStore
from opsq.web.audit import Entry, Trail
from opsq.web.mutes import MUTE, UNMUTE, Mutes

T = 1_795_000_000.0


def act(name: str, target: str, outcome: str = "done", **values: float) -> Entry:
    return Entry(
        at=0.0, who="oncall", how="session", source="", act=name, target=target, outcome=outcome, values=values
    )


def test_a_mute_holds_until_its_time_is_over() -> None:
    clock = ManualClock(T)
    trail = Trail(MemoryStore(), clock)
    mutes = Mutes(trail, clock)
    trail.note(act(MUTE, "f1", for_s=3600.0))
    trail.note(act(MUTE, "f2"))
    assert set(mutes.now()) == {"f1", "f2"}
    assert mutes.now()["f1"].who == "oncall"
    clock.advance(3601)
    assert set(mutes.now()) == {"f2"}


def test_what_was_refused_mutes_nothing_and_unmuting_ends_it() -> None:
    clock = ManualClock(T)
    trail = Trail(MemoryStore(), clock)
    mutes = Mutes(trail, clock)
    trail.note(act(MUTE, "f1", "refused"))
    assert mutes.now() == {}
    trail.note(act(MUTE, "f1"))
    mutes.forget_age()
    assert set(mutes.now()) == {"f1"}
    trail.note(act(UNMUTE, "f1"))
    clock.advance(3)
    assert mutes.now() == {}


def test_another_monitor_of_the_same_history_knows_it_too() -> None:
    clock = ManualClock(T)
    store = MemoryStore()
    here, there = Trail(store, clock), Mutes(Trail(store, clock), clock)
    for number in range(120):
        here.note(act("task-retry", f"t{number}"))
        if number == 3:
            here.note(act(MUTE, "f1"))
    assert set(there.now()) == {"f1"}
