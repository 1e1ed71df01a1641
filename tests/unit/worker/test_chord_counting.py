"""How chords are counted: by task id, once, whoever dies; and what is told when a part fails."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq, chain, chord, group
from opsq.core.chord_store import ChordLost, ChordStore
from opsq.core.result_tree import ids_around
from opsq.errors import ChordError
from opsq.testing.harness import running_worker
from opsq.wire.result import ResultMeta
from tests.conftest import MakeApp
from tests.servers import RedisServer

BODY = {"task": "shop.body", "args": [], "kwargs": {}, "options": {"task_id": "the-body"}}


@pytest.fixture(params=["sqlite", "redis", "sql"])
def counting(request: pytest.FixtureRequest, make_app: MakeApp, tmp_path: Path) -> Opsq:
    """An app whose results are in each store that counts."""
    if request.param == "sqlite":
        return make_app()
    if request.param == "sql":
        return make_app(backend=f"db+sqlite:///{tmp_path}/results.sqlite")
    server: RedisServer = request.getfixturevalue("redis")
    return make_app(broker=server.url, backend=server.url)


@pytest.fixture
def store(counting: Opsq) -> ChordStore:
    return ChordStore(counting.backend, counting.settings)


@pytest.fixture
def gid() -> str:
    return str(uuid.uuid4())


def test_a_part_counts_once_and_the_list_is_in_order(store: ChordStore, gid: str) -> None:
    store.open(gid, 2)
    assert store.part(gid, "b", 1, "SUCCESS", "second") is None
    assert store.part(gid, "b", 1, "SUCCESS", "second") is None
    token = store.part(gid, "a", 0, "SUCCESS", "first")
    assert token is not None
    assert store.results(gid, token, BODY) == ["first", "second"]
    store.close(gid, token)
    assert store.part(gid, "a", 0, "SUCCESS", "first") is None, "done is done"


def test_parts_may_come_before_the_size(store: ChordStore, gid: str) -> None:
    assert store.part(gid, "a", 0, "SUCCESS", 1) is None
    store.open(gid, 2)
    assert store.part(gid, "b", 1, "SUCCESS", 2) is not None


def test_only_the_task_that_holds_a_chord_takes_it_again(store: ChordStore, gid: str) -> None:
    store.open(gid, 2)
    store.part(gid, "a", 0, "SUCCESS", 1)
    token = store.part(gid, "b", 1, "SUCCESS", 2)
    assert store.part(gid, "a", 0, "SUCCESS", 1) is None, "somebody else completes it"
    assert store.part(gid, "b", 1, "SUCCESS", 2) == token, "its worker died; this is its next run"
    assert store.take_over(gid) is None


def test_a_chord_that_is_done_gives_nobody_an_empty_list(store: ChordStore, gid: str) -> None:
    """Two runs of one task that complete a chord side by side: the slower one finds its parts gone."""
    store.open(gid, 1)
    token = store.part(gid, "a", 0, "FAILURE", ValueError("why"))
    assert token is not None
    assert store.part(gid, "a", 0, "FAILURE", ValueError("why"), holder="somebody else") is None
    store.close(gid, token)
    with pytest.raises(ChordLost):
        store.results(gid, token, BODY)


def test_the_sweeper_finds_what_was_left(counting: Opsq, gid: str) -> None:
    store = ChordStore(counting.backend, counting.settings)
    store.claim_s = 1.0 if "redis" in str(counting.settings.result_backend) else 0.0
    store.open(gid, 1)
    token = store.part(gid, "a", 0, "SUCCESS", 7)
    assert token is not None
    assert store.results(gid, token, BODY) == [7]
    pause, until = threading.Event(), time.monotonic() + 10
    while not (found := store.due()) and time.monotonic() < until:
        pause.wait(0.05)
    (due,) = found
    assert (due.group_id, due.body["task"]) == (gid, "shop.body")
    assert store.take_over(gid) is not None


def test_one_publishing_of_a_body_starts(store: ChordStore) -> None:
    id = str(uuid.uuid4())
    assert store.may_start(id, "one")
    assert not store.may_start(id, "two")
    assert store.may_start(id, "one"), "redelivered: its worker was killed"


def test_a_failed_part_is_named(store: ChordStore, gid: str) -> None:
    store.open(gid, 2)
    store.part(gid, "a", 0, "FAILURE", ValueError("why"))
    token = store.part(gid, "b", 1, "SUCCESS", 1)
    assert token is not None
    with pytest.raises(ChordError, match=r"Dependency a raised ValueError\('why'\)"):
        store.results(gid, token, BODY)


def test_members_that_celerys_workers_ran_are_counted_by_the_unlocking_task(counting: Opsq, gid: str) -> None:
    """On SQL nobody else would; on stores where Celery counts, no such task is published."""
    app, store = counting, ChordStore(counting.backend, counting.settings)
    counted_by_celery = app.backend.backend.capabilities.counted_by_celery
    app.task(name="shop.add")(lambda x, y: x + y)
    app.task(name="shop.total")(lambda numbers: sum(numbers))
    elsewhere = [add(app, number, number).set(queue="celerys") for number in (1, 2)]
    result = chord(elsewhere, app.tasks["shop.total"].s())()
    with running_worker(app, pool="threads", concurrency=1):
        for number, member in enumerate(result.parent.results, 1):
            app.backend.store(ResultMeta(task_id=member.id, status="SUCCESS", result=2 * number))
        if counted_by_celery:
            assert not result.ready()
            return
        assert result.get(timeout=30) == 6
        assert not store.is_open(result.parent.id)


def test_a_whole_workflow_is_revoked(counting: Opsq) -> None:
    """What came before, the members of the header among it, and what was called."""
    app = counting
    app.task(name="shop.add")(lambda x, y: x + y)
    app.task(name="shop.total")(lambda numbers: sum(numbers))
    end = chain(add(app, 1, 1), group(add(app, 1), add(app, 2)), app.tasks["shop.total"].s())()
    first, header = end.parent.parent, end.parent
    called = str(uuid.uuid4())
    app.backend.store(ResultMeta(task_id=first.id, status="SUCCESS", result=2, children=[[[called, None], None]]))
    assert ids_around(end) == [first.id, called, *(member.id for member in header.results), end.id]
    end.revoke(graph=True)


@pytest.fixture
def shop(counting: Opsq) -> Iterator[Opsq]:
    app = counting
    app.task(name="shop.add")(lambda x, y: x + y)
    app.task(name="shop.total")(lambda numbers: sum(numbers))
    app.task(name="shop.told", bind=True)(lambda self, id: id)

    def fails() -> None:
        raise ValueError("why")

    app.task(name="shop.fails")(fails)
    app.task(name="shop.forks", bind=True)(lambda self, x: self.replace(group(add(app, x, 1), add(app, x, 2))))
    app.task(name="shop.more", bind=True)(lambda self, x: self.add_to_chord(add(app, x, 10)) and x)
    with running_worker(app, pool="threads", concurrency=3):
        yield app


def add(app: Opsq, *args: int) -> Any:
    return app.tasks["shop.add"].s(*args)


def test_a_failed_header_fails_everything_after_it(shop: Opsq) -> None:
    told = str(uuid.uuid4())
    body = shop.tasks["shop.total"].s().on_error(shop.tasks["shop.told"].s().set(task_id=told))
    inner = chord([add(shop, 1, 1), shop.tasks["shop.fails"].si()], body)
    result = chord([chain(inner, add(shop, 1)), add(shop, 2, 2)], shop.tasks["shop.total"].s()).apply_async()
    with pytest.raises(ChordError):
        result.get(timeout=30)
    failed = result.parent.results[0].parent.id
    assert shop.AsyncResult(told).get(timeout=30) == failed
    assert shop.AsyncResult(failed).state == "FAILURE"


def test_replaced_and_added_members(shop: Opsq) -> None:
    total = shop.tasks["shop.total"]
    assert shop.tasks["shop.forks"].delay(1).get(timeout=30) == [2, 3]
    header = [shop.tasks["shop.more"].s(1), chain(shop.tasks["shop.forks"].s(1), total.s())]
    assert chord(header, total.s()).apply_async().get(timeout=30) == 1 + 5 + 11


def test_a_revoked_member_fails_its_chord(shop: Opsq) -> None:
    late = add(shop, 1, 1).set(expires=-5)
    result = chord([add(shop, 1, 1), late], shop.tasks["shop.total"].s()).apply_async()
    with pytest.raises(ChordError, match="TaskRevokedError"):
        result.get(timeout=30)


def test_a_chord_of_a_generator(shop: Opsq) -> None:
    result = chord((add(shop, n, 0) for n in range(30)), shop.tasks["shop.total"].s()).apply_async()
    assert result.get(timeout=30) == 435
    assert [each.get(timeout=30) for each in result.parent.results] == list(range(30))
    result.forget()
    assert result.parent.results[0].state == "PENDING"


def test_a_group_is_saved_and_restored(shop: Opsq) -> None:
    result = group(add(shop, n, n) for n in range(3)).apply_async()
    result.save()
    restored = shop.GroupResult.restore(result.id)
    assert restored is not None
    assert restored.join(timeout=30) == [0, 2, 4]
    assert sorted(restored.iterate(timeout=30)) == [0, 2, 4]
    restored.delete()
    assert shop.GroupResult.restore(result.id) is None


def test_children_lead_to_the_end(shop: Opsq) -> None:
    result = (add(shop, 1, 1) | group(add(shop, 1), add(shop, 2)) | shop.tasks["shop.total"].s()).apply_async()
    assert result.get(timeout=30) == 7
    first = result.parent.parent
    ids = [handle.id for handle, _ in first.collect(intermediate=True, timeout=30)]
    assert ids[0] == first.id
    assert {each.id for each in result.parent.results} <= {*ids, *(child.id for child in first.children[0].results)}
