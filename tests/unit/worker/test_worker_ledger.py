"""What is kept of deliveries: entries while they last, numbers afterwards."""

from __future__ import annotations

from opsq.core.pools.base import Job
from opsq.core.worker.ledger import ORPHANS_MAX, Entry, Ledger, RevokedIds
from opsq.core.worker.policy import Policy
from opsq.wire.task import TaskHeaders

POLICY = Policy(
    task="t", acks_late=True, acks_on_failure=True, acks_on_timeout=True, reject_on_worker_lost=True,
    soft_limit_s=None, hard_limit_s=None, rate_per_s=0.0, send_events=True, ignore_result=False,
)  # fmt: skip


def entry(ledger: Ledger, task_id: str, tag: str, started: bool = False) -> Entry:
    key = ledger.next_key()
    job = Job(key, task_id, "t", {}, b"", "", "", {}, {})
    made = Entry(key, job, TaskHeaders(id=task_id, task="t"), POLICY, tag, ledger.generation, True, "q", 0.0)
    made.started_at = 1.0 if started else None
    ledger.add(made)
    return made


def ledger() -> Ledger:
    return Ledger(RevokedIds(3, 60.0))


def test_numbers_remain() -> None:
    book = ledger()
    for n in range(5):
        book.remove(entry(book, f"id-{n}", "tag").key)
    assert (len(book), book.processed, book.by_type) == (0, 5, {"t": 5})


def test_a_redelivery_is_given_to_the_run_it_belongs_to() -> None:
    book = ledger()
    runs, waits = entry(book, "runs", "old", started=True), entry(book, "waits", "old")
    assert book.disconnected() == [waits]
    assert (book.generation, book.has_orphans) == (1, True)
    assert not book.adopt("waits", 0, "new")
    assert not book.adopt("runs", 1, "another attempt")
    assert book.adopt("runs", 0, "new")
    assert (runs.tag, runs.generation, runs.orphan) == ("new", 1, False)
    assert not book.adopt("runs", 0, "again")


def test_a_redelivery_of_a_finished_run_is_recognised_once() -> None:
    book = ledger()
    run = entry(book, "id", "old", started=True)
    book.disconnected()
    book.orphan_finished(run)
    assert not book.adopt("id", 0, "new")
    assert book.already_ran("id", 0)
    assert not book.already_ran("id", 0)


def test_orphans_are_bounded() -> None:
    book = ledger()
    for n in range(ORPHANS_MAX + 10):
        book.orphan_finished(entry(book, f"id-{n}", "t"))
    assert book.counters["orphans_forgotten"] == 10
    assert not book.already_ran("id-0", 0)
    assert book.already_ran("id-10", 0)


def test_acknowledged_entries_are_not_redelivered() -> None:
    book = ledger()
    early = entry(book, "early", "old", started=True)
    early.acked = True
    assert book.disconnected() == []
    assert not book.has_orphans


def test_revoked_ids_are_bounded() -> None:
    ids = RevokedIds(3, 60.0)
    for task_id in "abcd":
        ids.add(task_id)
    assert (len(ids), list(ids), "a" in ids, "d" in ids) == (3, ["b", "c", "d"], False, True)
    assert "x" not in RevokedIds(3, 60.0)
    brief = RevokedIds(3, 0.0)
    brief.add("a")
    assert "a" not in brief
