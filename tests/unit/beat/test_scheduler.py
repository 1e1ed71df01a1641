"""The scheduler by hand: a clock that stands still, a SQLite broker and store, and deaths at each step of a tick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.broker.peek import peek
from opsq.clock import ManualClock
from opsq.control.schedules import COMMANDS
from opsq.core.beat import orders
from opsq.core.beat.lead import Lead, LostLead
from opsq.core.beat.scheduler import Scheduler
from opsq.core.schedules.state import read_book
from opsq.core.schedules.store_sqlite import SqliteStore
from opsq.errors import UsageError
from opsq.schedules import crontab

LEASE_S = 10.0


class Died(BaseException):
    """The process ends here."""


class DyingStore(SqliteStore):
    """Ends the process at the n-th write of a state, before or after the write."""

    die_at: int | None = None
    after = False
    writes = 0

    def write(self, token: int, changes: Mapping[str, bytes | None]) -> bool:
        dies = False
        if self.die_at is not None and any(name.startswith("state:") for name in changes):
            self.writes += 1
            dies = self.writes == self.die_at
        if dies and not self.after:
            raise Died
        done = super().write(token, changes)
        if dies:
            raise Died
        return done


class Yard:
    """One app, its clock, and schedulers that take turns."""

    def __init__(self, folder: Path, entries: dict[str, Any]) -> None:
        self.clock = ManualClock(1_750_000_000.0)
        self.app = Opsq(
            "yard", broker=f"sqlite:///{folder / 'broker.db'}", data_dir=str(folder), set_as_current=False,
            task_send_sent_event=False, clock=self.clock,
        )  # fmt: skip
        self.app.task(lambda *args, **kwargs: None, name="yard.tick", ignore_result=True)
        self.app.conf.beat_schedule = entries
        self.folder = folder
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.stores: list[DyingStore] = []

    def scheduler(self, holder: str = "a") -> Scheduler:
        store = DyingStore(str(self.folder / "beat.db"), self.clock.now)
        self.stores.append(store)
        lead = Lead(store, holder, LEASE_S, self.clock)
        assert lead.take()
        found = Scheduler(self.app, lead, self.clock, lambda kind, fields: self.events.append((kind, fields)))
        found.take_over()
        return found

    def sent(self) -> list[tuple[str, float, str]]:
        connection = self.app.connection("read")
        connection.connect()
        try:
            found = peek(connection, "celery")
        finally:
            connection.close()
        return [(m.headers["periodic_task_name"], m.headers["opsq_due_at"], m.headers["id"]) for m in found]

    def run(self, scheduler: Scheduler, seconds: float, step_s: float = 1.0) -> None:
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            self.clock.advance(step_s)
            scheduler.tick()


@pytest.fixture
def make_yard(tmp_path: Path) -> Iterator[Any]:
    made: list[Yard] = []

    def make(**entries: Any) -> Yard:
        table = {name: {"task": "yard.tick", **entry} for name, entry in entries.items()}
        made.append(Yard(tmp_path, table))
        return made[-1]

    yield make
    for yard in made:
        for store in yard.stores:
            store.close()
        yard.app.close()


def test_ticks_come_when_they_are_due_and_do_not_drift(make_yard: Any) -> None:
    yard = make_yard(e={"schedule": 5})
    start = yard.clock.now()
    yard.run(yard.scheduler(), 30, 0.7)
    assert [round(due - start, 6) for _, due, _ in yard.sent()] == [5, 10, 15, 20, 25, 30]
    assert {kind for kind, _ in yard.events} == {"schedule-tick", "schedule-due"}
    assert all(0 <= fields["late_s"] < 0.7 for kind, fields in yard.events if kind == "schedule-tick")


@pytest.mark.parametrize(("catch_up", "expected"), [("once", [60]), ("all", [10, 20, 30, 40, 50, 60]), ("none", [])])
def test_what_was_missed_is_caught_up_by_the_rule(make_yard: Any, catch_up: str, expected: list[int]) -> None:
    yard = make_yard(e={"schedule": 10, "catch_up": catch_up})
    start = yard.clock.now()
    first = yard.scheduler()
    first.lead.release()
    yard.clock.advance(65 if catch_up != "none" else 3665)
    second = yard.scheduler("b")
    second.tick()
    found = [round(due - start) for _, due, _ in yard.sent()]
    if catch_up == "none":
        # The last tick is only 5 s late, and that is punctual.
        assert found == [3660]
    else:
        assert found == expected
    assert second.items["e"].state.missed == {"once": 5, "all": 0, "none": 365}[catch_up]


def test_a_tick_later_than_its_deadline_is_missed(make_yard: Any) -> None:
    yard = make_yard(e={"schedule": crontab("0", tz="UTC"), "deadline": 60})
    yard.scheduler().lead.release()
    yard.clock.advance(3600 * 3 + 1800)
    second = yard.scheduler("b")
    second.tick()
    assert yard.sent() == []
    assert second.items["e"].state.missed >= 3


@pytest.mark.parametrize("write", [1, 2])
@pytest.mark.parametrize("after", [False, True])
def test_a_death_at_any_step_neither_loses_nor_doubles_a_tick(make_yard: Any, write: int, after: bool) -> None:
    yard = make_yard(e={"schedule": 5}, f={"schedule": 5})
    start = yard.clock.now()
    first = yard.scheduler()
    dying = yard.stores[-1]
    dying.die_at, dying.after = write, after
    yard.clock.advance(5)
    with pytest.raises(Died):
        first.tick()
    yard.clock.advance(LEASE_S)
    second = yard.scheduler("b")
    for _ in range(3):
        second.tick()
    found = yard.sent()
    # The tick of the death, and of those since then the last one.
    dues = {name: [round(due - start) for who, due, _ in found if who == name] for name in ("e", "f")}
    claimed = not (write == 1 and not after)
    assert dues == ({"e": [5, 15], "f": [5, 15]} if claimed else {"e": [15], "f": [15]})
    assert len({id for *_, id in found}) == len(found)
    assert all(item.state.repeated == 0 and item.state.claim == [] for item in second.items.values())


def test_a_leader_that_was_away_too_long_sends_nothing(make_yard: Any) -> None:
    yard = make_yard(e={"schedule": 5})
    first = yard.scheduler()
    yard.clock.advance(LEASE_S + 1)
    second = yard.scheduler("b")
    with pytest.raises(LostLead):
        first.tick()
    assert yard.sent() == []
    second.tick()
    assert len(yard.sent()) == 1


def test_an_entry_whose_schedule_changed_starts_then(make_yard: Any) -> None:
    yard = make_yard(e={"schedule": 100})
    first = yard.scheduler()
    yard.clock.advance(90)
    first.lead.release()
    yard.app = Opsq("again", broker=yard.app.settings.broker_url, set_as_current=False, clock=yard.clock)
    yard.app.conf.beat_schedule = {"e": {"task": "yard.tick", "schedule": 30}}
    second = yard.scheduler("b")
    second.tick()
    assert second.items["e"].next_at == pytest.approx(yard.clock.now() + 30)
    yard.app.close()


def test_the_jitter_of_a_tick_is_the_same_for_everybody(make_yard: Any) -> None:
    yard = make_yard(e={"schedule": 10, "jitter": 5})
    start = yard.clock.now()
    yard.run(yard.scheduler(), 100, 0.25)
    offsets = [fields["sent_at"] - fields["due_at"] for kind, fields in yard.events if kind == "schedule-tick"]
    assert [round(due - start) for _, due, _ in yard.sent()] == [*range(10, 100, 10)][: len(offsets)]
    assert all(0 <= offset <= 5.25 for offset in offsets)
    assert max(offsets) - min(offsets) > 1


def test_remote_orders(make_yard: Any) -> None:
    yard = make_yard(e={"schedule": 5})
    scheduler = yard.scheduler()
    orders.schedule_add(scheduler, "n", schedule="10s", task="yard.tick", args="[1]", jitter=None)
    orders.schedule_pause(scheduler, "e")
    yard.run(scheduler, 20)
    assert [name for name, *_ in yard.sent()] == ["n", "n"]
    orders.schedule_edit(scheduler, "n", schedule="3s")
    assert scheduler.items["n"].entry.args == (1,)
    orders.schedule_resume(scheduler, "e")
    assert orders.schedule_run(scheduler, "e")["id"] in {id for *_, id in yard.sent()}
    scheduler.lead.release()
    later = yard.scheduler("b")  # what was added outlives the leader
    assert later.items["n"].entry.schedule.seconds == 3
    book = {line.name: line for line in read_book(later.lead.store).lines}
    assert book["n"].about.source == "runtime"
    assert book["e"].state.recent[-1].asked
    orders.schedule_remove(later, "n")
    assert "n" not in later.items
    with pytest.raises(UsageError, match="from the code"):
        orders.schedule_remove(later, "e")
    with pytest.raises(UsageError, match="cannot read 'soon'"):
        orders.schedule_add(later, "x", schedule="soon", task="yard.tick")


def test_each_command_has_a_handler() -> None:
    assert orders.HANDLERS.keys() == COMMANDS.keys()
