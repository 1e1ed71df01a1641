"""Attaching: heartbeats asked for, task events turned on, what runs already is learnt, gaps are asked for again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from opsq.clock import ManualClock
from opsq.control.mailer import Call
from opsq.events import attach, replay
from opsq.events.attach import SENT_IS_OFF, TASKS_ARE_SILENT, Attacher
from opsq.events.catch_up import INSPECTED, Known, facts_of, tasks_of
from opsq.events.replay import Replayer
from opsq.events.sequence import Sequences
from opsq.events.skew import Skews
from opsq.events.workers import WorkerRecord
from opsq.wire.control import Reply
from opsq.wire.event import Event, Malformed

T0 = 1_790_000_000.0
REQUEST = {
    "id": "t1", "name": "shop.nap", "args": "(8,)", "kwargs": "{}", "time_start": T0 - 30.0, "worker_pid": 77,
    "delivery_info": {"routing_key": "celery", "exchange": ""},
}  # fmt: skip


class Fleet:
    """Workers that answer from a table, and remember what they were told."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.told: list[str] = []
        self.asked: list[tuple[str, tuple[str, ...] | None]] = []

    def tell(self, call: Call) -> None:
        self.told.append(call.command)

    def ask(self, call: Call) -> list[Reply]:
        self.asked.append((call.command, call.destination))
        value = self.answers.get(call.command)
        return [Reply(hostname=node, value=value) for node in call.destination or () if value is not None]


class Sight:
    """What the monitor knows."""

    def __init__(self) -> None:
        self.number: int | None = 0
        self.records: list[WorkerRecord] = []
        self.counted: dict[str, int] = {}
        self.has: set[str] = set()

    def connection(self) -> int | None:
        return self.number

    def workers(self) -> Sequence[WorkerRecord]:
        return self.records

    def kinds(self) -> Mapping[str, int]:
        return self.counted

    def lacks(self, event: Event) -> bool:
        return event.uuid not in self.has


def worker(name: str, incarnation: str = "1", **said: Any) -> WorkerRecord:
    return WorkerRecord(name, T0, T0, incarnation=incarnation, said=said)


def attacher(fleet: Fleet, sight: Sight, **options: Any) -> tuple[Attacher, list[Event | Malformed], ManualClock]:
    inserted: list[Event | Malformed] = []
    clock = ManualClock(T0)
    return Attacher(fleet, inserted.extend, sight, clock=clock, **options), inserted, clock


def test_a_worker_is_told_once_and_caught_up_on(monkeypatch: Any) -> None:
    monkeypatch.setattr(attach, "SETTLES_S", 0.0)
    fleet = Fleet(
        enable_events={"ok": "task events enabled"},
        active=[REQUEST],
        reserved=[{"id": "t2", "name": "shop.add"}],
        scheduled=[{"eta": "2026-01-01T00:00:00+00:00", "request": {"id": "t3", "name": "shop.add"}}, "odd", None],
        active_queues=[{"name": "celery"}],
        stats={"pool": {"max-concurrency": 4, "implementation": "celery.concurrency.prefork:TaskPool"}},
    )
    sight = Sight()
    made, inserted, clock = attacher(fleet, sight)
    made.step()
    assert fleet.told == ["heartbeat", "enable_events"]
    sight.records = [worker("w@h", sw_ident="py-celery")]
    sight.has = {"t2"}
    made.step()
    kinds = [(each.kind, each.uuid) for each in inserted if isinstance(each, Event)]
    assert kinds == [(INSPECTED, None), ("task-received", "t1"), ("task-started", "t1"), ("task-received", "t3")]
    facts = inserted[0]
    assert isinstance(facts, Event)
    assert facts.fields == {"slots": 4, "pool": "prefork", "queues": ["celery"]}
    assert (made.status.enabled, made.status.caught_up) == (("w@h",), 2)
    before = len(fleet.asked)
    made.step()
    assert len(fleet.asked) == before, "it was attached to already"
    sight.records = [worker("w@h", "2", sw_ident="py-celery")]
    made.step()
    assert len(fleet.asked) > before, "it started again and has forgotten"
    clock.advance(attach.AGAIN_S + 1)
    sight.number = 1
    made.step()
    assert fleet.told[2:] == ["heartbeat", "enable_events"]


def test_nobody_is_told_when_that_is_not_wanted(monkeypatch: Any) -> None:
    monkeypatch.setattr(attach, "SETTLES_S", 0.0)
    fleet, sight = Fleet(), Sight()
    made, _, _ = attacher(fleet, sight, enable=False)
    sight.records = [worker("w@h")]
    made.step()
    assert fleet.told == ["heartbeat"]
    assert "enable_events" not in [command for command, _ in fleet.asked]
    assert made.status.hints == (TASKS_ARE_SILENT,)


def test_silent_publishers_are_named_with_the_setting() -> None:
    sight = Sight()
    made, _, _ = attacher(Fleet(), sight)
    sight.counted = {"task-received": 100}
    assert made.status.hints == (SENT_IS_OFF,)
    assert SENT_IS_OFF.setting == "task_send_sent_event"
    sight.counted["task-sent"] = 1
    assert made.status.hints == ()


def test_without_a_connection_nothing_is_asked_and_both_stop_at_any_time() -> None:
    fleet, sight = Fleet(), Sight()
    sight.number = None
    made, _, _ = attacher(fleet, sight)
    made.step()
    assert fleet.told == []
    assert made.stop()
    made.start()
    assert made.stop()
    again = Replayer(fleet, Sequences(), lambda node: True, lambda events: None)
    again.start()
    assert again.stop(5.0)
    assert again.stop(5.0)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "name", "request", "time_start", "delivery_info", "pool"]), inner)
    ),
    max_leaves=12,
)


@given(st.lists(ANY, max_size=3), st.lists(ANY, max_size=3), st.lists(ANY, max_size=3), ANY, ANY)
def test_whatever_workers_answer(running: Any, held: Any, waiting: Any, stats: Any, queues: Any) -> None:
    for event in tasks_of("w@h", Known(running, held, waiting), T0):
        assert event.uuid
        assert event.timestamp <= T0 + 1.0
    facts_of("w@h", stats, queues, T0)


def gap(sequences: Sequences) -> None:
    for seq in (1, 2, 6):
        sequences.seen("e1", "w@h", seq, T0)


def event_of(seq: int) -> dict[str, Any]:
    return {
        "type": "task-started", "hostname": "w@h", "timestamp": T0, "uuid": f"t{seq}", "seq": seq, "emitter": "e1",
    }  # fmt: skip


def test_a_gap_is_asked_for_after_a_while_and_filled() -> None:
    sequences, got = Sequences(), list[Event | Malformed]()
    gap(sequences)
    fleet = Fleet(replay={"events": [event_of(3), event_of(4), {"type": 7}], "complete": False})
    clock = ManualClock(T0)
    made = Replayer(fleet, sequences, lambda node: node == "w@h", got.extend, clock=clock)
    made.step()
    assert fleet.asked == [], "an event may only be late"
    clock.advance(replay.SETTLES_S)
    made.step()
    assert fleet.asked == [("replay", ("w@h",))]
    assert [each.seq for each in got if isinstance(each, Event)] == [3, 4]
    for each in got:
        if isinstance(each, Event):
            sequences.seen("e1", "w@h", each.seq or 0, T0)
    clock.advance(60.0)
    made.step()
    assert sequences.lost == 1, "what nobody has is counted"


def test_what_cannot_be_had_is_given_up_after_some_tries() -> None:
    sequences = Sequences()
    gap(sequences)
    sequences.seen("e2", "gen1@h", 1, T0)
    sequences.seen("e2", "gen1@h", 9, T0)
    fleet, clock = Fleet(), ManualClock(T0)
    made = Replayer(fleet, sequences, lambda node: node == "w@h", lambda events: None, clock=clock)
    for _ in range(20):
        made.step()
        clock.advance(5.0)
    assert len(fleet.asked) == replay.MOST_TRIES
    assert {destination for _, destination in fleet.asked} == {("w@h",)}, "a client hears no commands"
    assert made.status.given_up == 1
    assert sequences.lost == 10


def test_clocks_of_other_machines() -> None:
    skews = Skews()
    for second in range(100):
        skews.heard("w1@ahead", T0 + second + 7.0, T0 + second + 0.002 + second % 3)
        skews.heard("w2@right", T0 + second, T0 + second + 0.004 + second % 5)
        skews.heard("w3@behind", T0 + second - 3600.0, T0 + second + 0.001)
    assert round(skews.ahead_s("other@ahead") or 0.0, 1) == 7.0
    assert skews.ahead_s("w2@right") == 0.0
    assert round(skews.ahead_s("w3@behind") or 0.0) == -3600
    assert skews.ahead_s("w@unheard") is None
    assert abs((skews.corrected("w1@ahead", T0 + 7.0) or 0.0) - T0) < 0.01
    assert skews.corrected("w@unheard", T0) == T0
    assert set(skews.copy()) == {"ahead", "behind"}
    for second in range(100, 400):
        skews.heard("w1@ahead", T0 + second, T0 + second + 0.002)
    assert skews.ahead_s("w1@ahead") == 0.0, "it was set right"
