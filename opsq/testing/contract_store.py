"""What every history store must do, as one test suite.

A test module derives a class from ``StoreContract`` and gives the fixture ``store``; a store that outlives its
process also gives ``reopen``. Rows are made by folding real events through a ``Cluster``, as the monitor does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from opsq.events import evidence as ev
from opsq.events.cluster import Cluster
from opsq.events.decisions import DecisionRow
from opsq.events.life import summarise
from opsq.events.records import time_key
from opsq.events.rollup import Slice, encode_slice
from opsq.events.store import Changes, Choice, Retention, Store, TaskRow, Where
from opsq.events.task_log import BATCHES_KEPT, shown
from opsq.wire.event import Event

T0 = 1_790_000_000.0


def event(kind: str, uuid: str, at: float, host: str = "opsq@one", **fields: object) -> Event:
    """An event as a worker sends it."""
    return Event(kind=kind, hostname=host, timestamp=at, pid=1, clock=int(at * 10) % 10**6, uuid=uuid, fields=fields)


def life(
    uuid: str, at: float, *, name: str = "app.add", queue: str = "celery", end: str = "task-succeeded"
) -> list[Event]:
    """A task's events from received to its end."""
    return [
        event("task-received", uuid, at, name=name, queue=queue, retries=0),
        event("task-started", uuid, at + 0.1),
        event(end, uuid, at + 0.2, runtime=0.1),
    ]


def logged(uuid: str, at: float, text: str) -> Event:
    """A line that a task logged, as a worker sends it."""
    return event("task-log", uuid, at, attempt=1, first=1, lines=[[at, "INFO", "app", text]], left_out=0)


def row(
    uuid: str, key: int, *, state: str = "SUCCESS", type: str | None = "app.add", root: str | None = None
) -> TaskRow:
    """A row with real evidence."""
    known = ev.fold(ev.EMPTY, life(uuid, T0, name=type or ""))
    return TaskRow(key, uuid, state, type, "celery", "opsq@one", root, ev.encode(known))


class StoreContract:
    """The suite."""

    @pytest.fixture
    def store(self) -> Store:
        """The store under test, empty."""
        raise NotImplementedError

    @pytest.fixture
    def reopen(self) -> Callable[[Store], Store] | None:
        """Close the store and open it again, for stores that outlive their process."""
        return None

    def test_an_empty_store_knows_nothing(self, store: Store) -> None:
        """Nothing is made up."""
        restored = store.restore()
        assert (dict(restored.cells), dict(restored.workers), dict(restored.ledger)) == ({}, {}, {})
        assert store.load(["a"]) == {}
        assert store.task("a") is None
        assert store.tasks(Where(), 10) == []
        assert store.taken([1, 2]) == set()
        assert store.fetch_slices([(60, 0, "")]) == {}
        assert store.slices(60, 0, 10) == []

    def test_what_is_written_is_read(self, store: Store) -> None:
        """Rows come back as they were, by id, by key and by list."""
        written = row("a" * 32, 5)
        store.write(Changes(rows={written.id: written}))
        loaded = store.load([written.id, "unknown"])
        assert list(loaded) == [written.id]
        for found in (loaded[written.id], store.task(written.id), store.tasks(Where(), 10)[0]):
            assert found is not None
            assert (found.key, found.id, found.cell, found.evidence) == (
                written.key,
                written.id,
                written.cell,
                written.evidence,
            )
        assert store.taken([4, 5]) == {5}

    def test_writing_a_row_again_changes_nothing(self, store: Store) -> None:
        """The same rows twice are the same rows."""
        written = row("a" * 32, 5)
        for _ in range(2):
            store.write(Changes(rows={written.id: written}))
        assert len(store.tasks(Where(), 10)) == 1

    def test_a_row_moves_to_its_new_state(self, store: Store) -> None:
        """A later row replaces the earlier one everywhere."""
        store.write(Changes(rows={"x": row("x", 5, state="STARTED")}))
        store.write(Changes(rows={"x": row("x", 5, state="SUCCESS")}))
        started = Where({"state": Choice(frozenset({"STARTED"}))})
        finished = Where({"state": Choice(frozenset({"SUCCESS"}))})
        assert store.tasks(started, 10) == []
        assert [found.id for found in store.tasks(finished, 10)] == ["x"]

    def test_pages_are_newest_first_and_do_not_overlap(self, store: Store) -> None:
        """A cursor goes on exactly where the page ended."""
        store.write(Changes(rows={f"t{n}": row(f"t{n}", n) for n in range(25)}))
        seen: list[int] = []
        before: int | None = None
        while page := store.tasks(Where(before=before), 10):
            seen += [found.key for found in page]
            before = page[-1].key
        assert seen == list(range(24, -1, -1))

    def test_rows_are_chosen_by_every_dimension(self, store: Store) -> None:
        """Included, excluded, unknown, several, by range of keys, and by the start of the id."""
        rows = [
            row("7f3ac91e-0000-4000-8000-000000000000", 1, type="a"),
            row("7f3ac91e-1111-4000-8000-000000000000", 2, type="b", state="FAILURE"),
            row("plain-id", 3, type=None),
        ]
        store.write(Changes(rows={one.id: one for one in rows}))

        def keys(where: Where) -> list[int]:
            return [found.key for found in store.tasks(where, 10)]

        assert keys(Where({"type": Choice(frozenset({"a"}))})) == [1]
        assert keys(Where({"type": Choice(frozenset({"a", "b"}))})) == [2, 1]
        assert keys(Where({"type": Choice(frozenset({"a", None}))})) == [3, 1]
        assert keys(Where({"type": Choice(None, frozenset({"a"}))})) == [3, 2]
        assert keys(Where({"type": Choice(None, frozenset({None}))})) == [2, 1]
        assert keys(Where({"type": Choice(frozenset({"never seen"}))})) == []
        assert keys(Where({"type": Choice(frozenset())})) == []
        assert keys(Where({"state": Choice(frozenset({"FAILURE"})), "type": Choice(frozenset({"a"}))})) == []
        assert keys(Where(since=2)) == [3, 2]
        assert keys(Where(since=2, before=3)) == [2]
        assert keys(Where(id_prefix="7f3ac91e")) == [2, 1]
        assert keys(Where(id_prefix="7f3ac91e-1")) == [2]
        assert keys(Where(id_prefix="pla")) == [3]
        assert keys(Where({"state": Choice(frozenset({"SUCCESS"}))}, id_prefix="7f3")) == [1]

    def test_relatives_are_found_by_their_root(self, store: Store) -> None:
        """A workflow's members know their root."""
        store.write(Changes(rows={f"c{n}": row(f"c{n}", n, root="r") for n in range(3)} | {"x": row("x", 9)}))
        assert [found.id for found in store.relatives("r", 2)] == ["c2", "c1"]

    def test_cells_are_differences_and_survive(self, store: Store) -> None:
        """Counts add up over writes; nothing counts rows."""
        cell = ("SUCCESS", "app.add", None, "w")
        other = ("STARTED", None, "q", None)
        store.write(Changes(cells={cell: 3, other: 1}))
        store.write(Changes(cells={cell: -1, other: -1}))
        assert dict(store.restore().cells) == {cell: 2}

    def test_slices_workers_and_ledger_are_kept_whole(self, store: Store) -> None:
        """The last value written is the value."""
        first, second = encode_slice(Slice(run_s=1.0)), encode_slice(Slice(run_s=2.0))
        store.write(
            Changes(
                slices={(60, 60, "t:a"): first, (60, 120, "t:b"): first, (10, 60, "t:a"): first, (60, 60, ""): first},
                workers={"w": b"1", "v": b"1"},
                ledger={"counts": b"1"},
            )
        )
        store.write(Changes(slices={(60, 60, "t:a"): second}, workers={"v": None, "w": b"2"}, ledger={"counts": b"2"}))
        assert store.fetch_slices([(60, 60, "t:a"), (60, 61, "t:a")]) == {(60, 60, "t:a"): second}
        assert store.slices(60, 0, 1000, prefix="t:") == [(60, "t:a", second), (120, "t:b", first)]
        assert store.slices(60, 61, 1000, prefix="t:") == [(120, "t:b", first)]
        assert store.slices(60, 0, 1000, series="") == [(60, "", first)]
        assert (dict(store.restore().workers), dict(store.restore().ledger)) == ({"w": b"2"}, {"counts": b"2"})

    def test_old_rows_leave_with_their_counts(self, store: Store) -> None:
        """Retention by age takes rows away and says what they counted."""
        cluster = Cluster(store)
        cluster.apply([*life("old", T0 - 3600), *life("new", T0, end="task-failed")], T0 + 1)
        store.write(cluster.take())
        removed = store.retain(Retention(keep_s=600.0), T0)
        assert removed.rows == 1
        assert removed.before <= time_key(T0 - 599)
        assert dict(removed.cells) == {("SUCCESS", "app.add", "celery", "opsq@one"): -1}
        assert [found.id for found in store.tasks(Where(), 10)] == ["new"]
        assert dict(store.restore().cells) == {("FAILURE", "app.add", "celery", "opsq@one"): 1}
        assert store.retain(Retention(keep_s=600.0), T0).rows == 0

    def test_too_much_leaves_oldest_first(self, store: Store) -> None:
        """Retention by size."""
        store.write(Changes(rows={f"t{n}": row(f"t{n}", n) for n in range(20)}))
        assert store.retain(Retention(keep_s=None, max_bytes=1), T0).rows > 0
        assert store.retain(Retention(keep_s=None, max_bytes=None), T0).rows == 0

    def test_what_a_task_logged_is_kept_once_and_in_order(self, store: Store) -> None:
        """Told again, or in another order, it is the same; the newest batches of a task stay."""
        told = [logged("x", T0 + n, f"line {n}") for n in range(BATCHES_KEPT + 3)]
        for batch in (told[10:], told[:20], told):
            cluster = Cluster(store)
            cluster.apply([*batch, logged("y", T0, "of another")], T0 + 100)
            store.write(cluster.take())
        assert [shown(each)["lines"][0][3] for each in store.log("x")] == [f"line {n}" for n in range(3, len(told))]
        assert [shown(each)["attempt"] for each in store.log("y")] == [1]
        assert store.log("unknown") == []
        assert store.task("x") is None

    def test_log_lines_leave_before_their_tasks(self, store: Store) -> None:
        """By an age of their own, and by bytes of their own, oldest first; at the latest with the tasks."""
        cluster = Cluster(store)
        cluster.apply([*life("t", T0), *(logged("t", T0 + n, "x" * 1000) for n in range(10))], T0 + 10)
        store.write(cluster.take())
        store.retain(Retention(logs_s=600.0), T0 + 603.5)
        assert [each.at for each in store.log("t")] == [T0 + n for n in range(4, 10)]
        store.retain(Retention(logs_bytes=2500), T0 + 20)
        assert [each.at for each in store.log("t")] == [T0 + 8, T0 + 9]
        assert store.task("t") is not None
        store.retain(Retention(keep_s=600.0, logs_s=None), T0 + 700)
        assert store.log("t") == []

    def test_decisions_are_kept_once_and_by_age(self, store: Store) -> None:
        """Read by time and group, newest first; told again they are the same; they leave by an age of their own."""
        rows = [DecisionRow(f"g{n % 2}", T0 + n, "e", n % 3 == 0, b"\x80") for n in range(6)]
        store.write(Changes(decisions=rows))
        store.write(Changes(decisions=rows))
        assert store.decisions(T0 + 1, T0 + 5) == rows[4:0:-1]
        assert store.decisions(T0, T0 + 9, group="g1", limit=2) == [rows[5], rows[3]]
        assert store.decisions(T0, T0 + 9, changed=True) == [rows[3], rows[0]]
        assert store.latest_decisions(T0) == [rows[4], rows[5]]
        store.retain(Retention(decisions_s=600.0), T0 + 603.5)
        assert store.decisions(T0, T0 + 9) == [rows[5], rows[4]]

    def test_one_holds_a_lease(self, store: Store) -> None:
        """Again to keep it; another gets it when it was let go of."""
        assert store.lease("scaling", "one", 30.0)
        assert store.lease("scaling", "one", 30.0)
        assert not store.lease("scaling", "two", 30.0)
        assert store.lease("other", "two", 30.0)
        assert store.lease("scaling", "one", 0.0)
        assert store.lease("scaling", "two", 30.0)
        assert not store.lease("scaling", "one", 30.0)

    def test_reading_goes_on_while_one_writes(self, store: Store) -> None:
        """Readers on other threads see whole transactions and no errors."""
        errors: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                while not done.is_set():
                    found = store.tasks(Where(), 1000)
                    assert len(found) % 10 == 0
                    store.task("t5")
                    store.slices(60, 0, 10)
            except BaseException as error:  # noqa: BLE001 boundary: shown by the test
                errors.append(error)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for start in range(0, 300, 10):
            store.write(Changes(rows={f"t{n}": row(f"t{n}", n) for n in range(start, start + 10)}))
        done.set()
        for reader in readers:
            reader.join(10)
        assert not errors, errors

    def test_counts_equal_a_recount_of_the_rows(self, store: Store) -> None:
        """Duplicates, late and repeated events in any batches: cells are what the rows say."""
        cluster = Cluster(store)
        events = [
            each for n in range(30) for each in life(f"t{n}", T0 + n, end=("task-failed", "task-succeeded")[n % 2])
        ]
        for batch in (events[::3], events[1::2], events, list(reversed(events))):
            cluster.apply(batch, T0 + 100)
            store.write(cluster.take())
            cluster.written()
        recount: dict[object, int] = {}
        for found in store.tasks(Where(), 1000):
            summary = summarise(ev.decode(found.evidence))
            assert found.cell == (summary.state, summary.type, summary.queue, summary.worker)
            recount[found.cell] = recount.get(found.cell, 0) + 1
        assert recount == dict(store.restore().cells) == cluster.cells
        assert sum(recount.values()) == 30

    def test_a_restart_goes_on_where_it_was(self, store: Store, reopen: Callable[[Store], Store] | None) -> None:
        """The second monitor joins the same rows: a replay of everything changes nothing."""
        if reopen is None:
            pytest.skip("this store does not outlive its process")
        events = [each for n in range(10) for each in life(f"t{n}", T0 + n)]
        first = Cluster(store)
        first.apply(events[:20], T0 + 20)
        store.write(first.take())
        again = reopen(store)
        second = Cluster(again)
        assert second.cells == first.cells
        second.apply(events, T0 + 21)
        again.write(second.take())
        assert sum(second.cells.values()) == 10
        assert second.cells == {("SUCCESS", "app.add", "celery", "opsq@one"): 10}
        assert len(again.tasks(Where(), 100)) == 10
        total = again.slices(0, 0, 1, series="t:app.add")
        assert len(total) == 1
        again.close()

    def test_closing_twice_is_harmless(self, store: Store) -> None:
        """Everything that starts can stop, twice."""
        store.close()
        store.close()
