"""What a search has to find in every history store: the same rows before, while and after they are indexed.

A test module derives a class from ``SearchContract`` beside ``StoreContract`` and gives the fixture ``store``. The
measure of a search is ``document.matches`` over all rows, which looks at each one.
"""

from __future__ import annotations

import random
import uuid

import pytest

from opsq.events import evidence as ev
from opsq.events.document import Looked, matches
from opsq.events.grammar import parse
from opsq.events.life import summarise
from opsq.events.records import time_key
from opsq.events.rows import Changes, Retention, TaskRow
from opsq.events.store import Store
from opsq.testing.contract_store import T0, event

ROWS = 400
NOW = T0 + ROWS
_SOME = ("anna", "bob", "carla", "größe", "x-9 y")
LINES = (
    "", "anna", "ANNA -bob", "anna OR bob", "NOT anna", "größe", '"x-9 y"', "zeb", "zebra anna", "qz",
    "(anna OR bob) t2",
    "state:failed", "-state:failed anna", "type:app.t*", "type:app.t1,app.t2 worker:w1", "-type:app.t1 -type:app.t2",
    "queue:none", "-queue:none", "runtime:>5s", "runtime:1s..2s anna", "-runtime:>5s", "wait:<2s", "retries:1",
    "memory:>60MB",
    "since:200s", "until:200s", "since:300s until:100s anna", "since:2h (until:390s OR since:20s)", "kwargs:n=7",
    "kwargs:n=77 OR kwargs:n=78", "kwargs:tag=anna", "result:stored", "exception:timeout", "args:timeout", "order-17",
    "id:order-1", "state:ok type:app.t3 -worker:w2 runtime:<8s carla", "w1", "no such thing",
    "NOT (anna OR state:failed)",
)  # fmt: skip


def told(n: int, rng: random.Random, *, ended: bool = True) -> TaskRow:
    """The row of task ``n``; without its end it still runs."""
    id = f"order-{n}" if n % 10 == 7 else str(uuid.UUID(int=rng.getrandbits(128), version=4))
    host, at = f"celery@w{n % 3}", T0 + n
    words = " ".join(rng.choices(_SOME, k=2)) + (" zebra" if n % 97 == 3 else "")
    facts = {
        "name": f"app.t{n % 5}", "args": f"('{words}',)", "kwargs": f"{{'n': {n}, 'tag': '{rng.choice(_SOME)}'}}",
        "retries": int(n % 11 == 1), "published_at": at - rng.random() * 4, "attempt": 1 + int(n % 11 == 1),
        "rss_bytes": 50_000_000 + n * 100_000,
    }  # fmt: skip
    if n % 4:
        facts["queue"] = f"q{n % 2}"
    run_s = rng.random() * 10
    end = {"exception": "Timeout('no answer')"} if n % 13 == 0 else {"result": "'stored anna'"}
    events = [event("task-received", id, at, host=host, **facts), event("task-started", id, at + 0.5, host=host)]
    if ended:
        kind = "task-failed" if n % 13 == 0 else "task-succeeded"
        events.append(event(kind, id, at + 0.5 + run_s, host=host, runtime=run_s, **end))
    known = ev.fold(ev.EMPTY, events)
    found = summarise(known)
    return TaskRow(
        time_key(at) + n, id, found.state, found.type, found.queue, found.worker, found.root, ev.encode(known)
    )


def filling(*, ended: bool = True) -> list[TaskRow]:
    """All rows, always the same ones; ``ended`` false gives the same tasks while they ran."""
    rng = random.Random(3)
    return [told(n, random.Random(rng.getrandbits(64)), ended=ended) for n in range(ROWS)]


def put(store: Store, rows: list[TaskRow], instead_of: list[TaskRow] | None = None) -> None:
    """Write rows with their counts."""
    changes = Changes(rows={row.id: row for row in rows})
    for sign, counted in ((1, rows), (-1, instead_of or [])):
        for row in counted:
            changes.cells[row.cell] = changes.cells.get(row.cell, 0) + sign
    store.write(changes)


def check(store: Store, rows: list[TaskRow], lines: tuple[str, ...] = LINES) -> None:
    """Every line finds what a look at every row finds, page by page, and counts it."""
    newest = sorted(rows, key=lambda row: row.key, reverse=True)
    for line in lines:
        query = parse(line)
        assert query.faults == (), line
        wanted = [row.id for row in newest if matches(query.root, Looked(row), NOW)]
        found: list[str] = []
        before: int | None = None
        while True:
            page = store.find(query.root, NOW, before=before, limit=70)
            assert page.complete, line
            found += [row.id for row in page.rows]
            before = page.older
            if before is None:
                break
        assert found == wanted, line
        counted = store.count(query.root, NOW)
        assert (counted.value, counted.exact) == (len(wanted), True), line
        capped = store.count(query.root, NOW, most=10)
        assert (capped.value, capped.exact) == (min(10, len(wanted)), len(wanted) <= 10), line


class SearchContract:
    """The suite."""

    @pytest.fixture
    def store(self) -> Store:
        """The store under test, empty."""
        raise NotImplementedError

    def test_searches_find_the_same_before_and_after_indexing(self, store: Store) -> None:
        """In several segments, then beside rows that are not indexed, then with all indexed."""
        rows = filling()
        for start in range(0, 200, 50):
            put(store, rows[start : start + 50])
            while store.index():
                continue
        put(store, rows[200:])
        check(store, rows)
        while store.index():
            continue
        assert store.waiting_for_index() == 0
        check(store, rows)

    def test_rows_that_change_after_indexing_are_found_as_they_are(self, store: Store) -> None:
        """An old segment knows the old state; it must neither hide nor double a row."""
        running, rows = filling(ended=False), filling()
        put(store, running)
        while store.index():
            continue
        check(store, running, ("state:running", "NOT state:running", "anna", "result:stored"))
        put(store, rows[:250], running[:250])
        mixed = rows[:250] + running[250:]
        check(
            store, mixed, ("state:running", "NOT state:running", "state:failed", "runtime:>5s", "result:stored", "anna")
        )
        while store.index():
            continue
        check(
            store, mixed, ("state:running", "NOT state:running", "state:failed", "runtime:>5s", "result:stored", "anna")
        )

    def test_small_segments_become_one(self, store: Store) -> None:
        """Merging loses nothing and leaves the dead behind."""
        running, rows = filling(ended=False), filling()
        for start in range(0, ROWS, 20):
            put(store, running[start : start + 20])
            store.index()
        for start in range(0, ROWS, 20):
            put(store, rows[start : start + 20], running[start : start + 20])
            store.index()
        while store.index():
            continue
        check(store, rows)

    def test_removed_rows_are_not_found(self, store: Store) -> None:
        """Retention cuts through a segment."""
        rows = filling()
        put(store, rows[:100])
        while store.index():
            continue
        put(store, rows[100:])
        store.retain(Retention(keep_s=ROWS - 50.0), NOW)
        check(
            store, [row for row in rows if row.key >= time_key(T0 + 50)], ("", "anna", "state:ok", "-anna", "since:2h")
        )

    def test_a_search_without_help_stops_and_says_so(self, store: Store) -> None:
        """Nothing is made up: what was not looked at is said."""
        put(store, filling())
        found = store.find(parse("nothing").root, NOW, limit=10)
        assert (found.rows, found.older, found.complete) == ([], None, True)
        assert found.looked <= ROWS

    def test_what_people_did_is_kept_and_leaves_by_age(self, store: Store) -> None:
        """The audit record has its own retention."""
        for n in range(3):
            store.note(T0 + n * 100, b"%d" % n)
        newest = store.audit(limit=2)
        assert [record for _, _, record in newest] == [b"2", b"1"]
        assert [record for _, _, record in store.audit(before=newest[-1][0])] == [b"0"]
        store.retain(Retention(keep_s=None, audit_s=150.0), T0 + 250)
        assert [record for _, _, record in store.audit()] == [b"2", b"1"]
