"""A revoked task stays revoked: with no worker online, after all were replaced, and whoever revoked it."""

from __future__ import annotations

import time
from typing import Any

from opsq import Opsq
from opsq.broker import standing
from opsq.broker.connection import open_connection
from opsq.testing.harness import running_worker
from tests.control.conftest import NODE, PATIENCE_S, MakeApp, until


def shop(make_app: MakeApp, **settings: Any) -> tuple[Opsq, list[str]]:
    """An app whose task notes its runs."""
    app, ran = make_app(**settings), []

    @app.task(name="shop.note")
    def note(what: str) -> str:
        ran.append(what)
        return what

    return app, ran


def book(app: Opsq) -> set[tuple[str, str, str]]:
    """What the broker keeps."""
    connection = open_connection(app.settings, purpose="read")
    connection.connect()
    try:
        return {each.key for each in standing.read(connection, time.time()) or ()}
    finally:
        connection.close()


def test_it_holds_when_no_worker_is_online(make_app: MakeApp) -> None:
    app, ran = shop(make_app)
    note = app.tasks["shop.note"]
    revoked, wanted = note.delay("revoked"), note.delay("wanted")
    stamped = note.apply_async(("stamped",), stamped_headers=["customer"], customer="17")
    app.control.revoke(revoked.id)
    app.control.revoke_by_stamped_headers({"customer": ["16", "17"]})
    with running_worker(app, pool="threads", concurrency=1, hostname=NODE):
        assert wanted.get(timeout=PATIENCE_S) == "wanted"
        until(lambda: revoked.state == stamped.state == "REVOKED")
    assert ran == ["wanted"]


def test_it_holds_after_every_worker_was_replaced(make_app: MakeApp) -> None:
    app, ran = shop(make_app)
    note = app.tasks["shop.note"]
    with running_worker(app, pool="threads", concurrency=1, hostname=NODE) as first:
        first.wait("listening")
        later = note.apply_async(("later",), countdown=500)
        first.wait("received", later.id)
        # As a Celery client says it, which keeps nothing itself.
        app.control.broadcast("revoke", {"task_id": [later.id, "not-sent-yet"]}, kept=False, reply=True, limit=1)
        until(lambda: later.state == "REVOKED")
    assert ("revoked", "not-sent-yet", "") in book(app), "the worker has kept it"
    replaced, ran_there = shop(make_app)
    with running_worker(replaced, pool="threads", concurrency=1, hostname="w2@here") as second:
        sent = replaced.tasks["shop.note"].apply_async(("late",), task_id="not-sent-yet")
        until(lambda: second.counters.get("revoked") == 1)
        assert sent.state == "REVOKED"
    assert ran == ran_there == []


def test_what_is_meant_for_one_worker_is_no_order_for_all(make_app: MakeApp) -> None:
    app, _ = shop(make_app)
    app.control.revoke("a", destination=[NODE])
    app.control.revoke("b", pattern="w*", matcher="glob")
    with running_worker(app, pool="threads", concurrency=1, hostname=NODE) as worker:
        worker.wait("listening")
        app.control.revoke("c", destination=[NODE], reply=True, timeout=PATIENCE_S)
        assert list(worker.worker.ledger.revoked) == ["c"]
    assert book(app) == set()


def test_it_ends_when_it_was_said_to(make_app: MakeApp) -> None:
    app, ran = shop(make_app)
    app.control.revoke("short", for_s=0.2)
    app.control.revoke("long", for_s=100_000)
    until(lambda: ("revoked", "short", "") not in book(app))
    with running_worker(app, pool="threads", concurrency=1, hostname=NODE) as worker:
        note = app.tasks["shop.note"]
        note.apply_async(("short",), task_id="short").get(timeout=PATIENCE_S)
        # Longer than worker_revoke_expires, which is for those that say nothing.
        assert "long" in worker.worker.ledger.revoked
        age_s = worker.worker.ledger.revoked.ages()["long"]
        assert -age_s > 100_000 - app.settings.worker_revoke_expires - 60
    assert ran == ["short"]


def test_the_id_is_remembered_also_where_the_broker_has_no_book(make_app: MakeApp) -> None:
    app, _ = shop(make_app, broker_url="memory://")
    with running_worker(app, pool="threads", concurrency=1, hostname=NODE) as worker:
        worker.wait("listening")
        assert not app.control.keep("revoke", {"task_id": "a"})
        app.control.revoke("a", reply=True, timeout=PATIENCE_S, limit=1)
        assert list(worker.worker.ledger.revoked) == ["a"]
