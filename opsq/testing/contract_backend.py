"""What every result store must do, as one test suite.

A test module derives a class from ``BackendContract`` and gives the fixture ``store``, the settings of one.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from opsq import Opsq, chord
from opsq.core.backends.base import Backend
from opsq.core.backends.registry import open_backend
from opsq.settings import Settings
from opsq.testing.harness import running_worker
from opsq.wire.result import ResultMeta, decode_result, encode_result

SOON_S = 15.0
LONG_S = 30.0


Store = dict[str, Any]
EXTENDED: Final[dict[str, Any]] = {
    "extended": True,
    "name": "shop.add",
    "args": [1, "two"],
    "kwargs": {"three": 3},
    "worker": "w@host",
    "retries": 2,
    "queue": "celery",
    "stamped_headers": ["order"],
    "stamps": {"order": "7"},
}


def payload(id: str, state: str, result: object = None) -> bytes:
    """A stored document, as the result store writes it."""
    return encode_result(ResultMeta(task_id=id, status=state, result=result))


def opened(store: Store, expires_s: float = 100.0) -> Iterator[Backend]:
    """A backend of these settings, closed afterwards. expires_s: ``result_expires``."""
    settings = Settings(**{"result_expires": expires_s, **store})
    backend = open_backend(settings.resolved_result_backend(), settings)
    yield backend
    backend.close()


def unique() -> str:
    """An id that no other test uses."""
    return str(uuid.uuid4())


def reads(backend: Backend, id: str, state: str, result: object = None) -> bool:
    """Whether this state is what is stored: byte for byte where the store keeps bytes."""
    found = backend.get("task", id)
    if backend.capabilities.keeps == "bytes":
        return found == payload(id, state, result)
    meta = decode_result(found) if found is not None else None
    return meta is not None and (meta.task_id, meta.status, meta.result) == (id, state, result)


def put(backend: Backend, id: str, state: str, result: object = None, ttl_s: float | None = 60.0) -> bool:
    """Store a state of a task."""
    return backend.put("task", id, payload(id, state, result), state=state, ttl_s=ttl_s)


class BackendContract:
    """The suite.

    many: ids to read at once. kept: what the store keeps of ``result_extended``. brief_s: the shortest time
    that its dates tell.
    """

    many: ClassVar[int] = 1203
    brief_s: ClassVar[float] = 0.5
    kept: ClassVar[tuple[str, ...]] = tuple(EXTENDED)

    @pytest.fixture
    def store(self) -> Store:
        """The settings of the store: ``result_backend`` and what belongs to it."""
        raise NotImplementedError

    @pytest.fixture
    def backend(self, store: Store) -> Iterator[Backend]:
        """One connection."""
        yield from opened(store)

    @pytest.fixture
    def second(self, backend: Backend, store: Store) -> Iterator[Backend]:
        """Another connection to the same store; the same one where there is no other."""
        yield from opened(store) if backend.capabilities.cross_process else (backend,)

    @pytest.fixture
    def brief(self, backend: Backend, store: Store) -> Iterator[Backend]:
        """The store with results that end at once, where its settings say when."""
        yield from opened(store, self.brief_s) if backend.capabilities.lifetimes == "store" else (backend,)

    def test_what_was_put_is_read_back_byte_for_byte(self, backend: Backend) -> None:
        """Any bytes, any length, for both kinds; any document where fields are kept."""
        for data in (b"", b"\0\xff" * 10, b"x" * 300_000) if backend.capabilities.keeps == "bytes" else ():
            id = unique()
            assert backend.put("task", id, data, state="STARTED", ttl_s=60)
            assert backend.get("task", id) == data
            assert backend.get("group", id) is None
        values: tuple[object, ...] = ("", "x" * 300_000, {"é\0": [1, 2.5, None, True]}, [[], {}], -1)
        for value in values:
            id = unique()
            assert put(backend, id, "SUCCESS", value)
            assert reads(backend, id, "SUCCESS", value)
            assert backend.get("group", id) is None

    def test_everything_of_a_document_comes_back(self, backend: Backend) -> None:
        """As far as Celery's columns hold it: an error, its traceback, children, stamps, arguments."""
        id, child = unique(), [[[unique(), None], None]]
        error = {"exc_type": "ValueError", "exc_message": ["boom", 42], "exc_module": "builtins"}
        meta = ResultMeta(
            task_id=id,
            status="FAILURE",
            result=error,
            traceback="Traceback …\n  é",
            children=child,
            date_done=datetime.now(UTC).isoformat(),
            **EXTENDED,
        )
        assert backend.put("task", id, encode_result(meta), state="FAILURE", ttl_s=None)
        found = backend.get("task", id)
        assert found is not None
        read = decode_result(found)
        assert (read.result, read.traceback, read.children) == (error, meta.traceback, child)
        assert {name: getattr(read, name) for name in self.kept} == {name: EXTENDED[name] for name in self.kept}

    def test_a_group_is_kept(self, backend: Backend) -> None:
        """Flat, nested, replaced, forgotten."""
        id = unique()
        for tree in (
            [[id, None], [[[unique(), None], None] for _ in range(3)]],
            [[id, None], [[[unique(), None], [[[unique(), None], None]]], [[unique(), None], None]]],
        ):
            backend.put("group", id, json.dumps({"result": tree}).encode(), state="", ttl_s=60)
            assert json.loads(backend.get("group", id) or b"{}") == {"result": tree}
        assert backend.get("task", id) is None
        backend.forget("group", [id])
        assert backend.get("group", id) is None

    def test_an_unknown_id_is_none(self, backend: Backend) -> None:
        """Not an error: the task may not have begun."""
        assert backend.get("task", unique()) is None
        assert backend.get_many("task", [unique(), unique()]) == {}
        backend.forget("task", [unique()])

    def test_ids_are_any_text(self, backend: Backend) -> None:
        """Up to 155 characters, in any script."""
        for id in ("a b*?[]{}", "é" * 155, "../x'\";--", "0"):
            full = f"{id}{os.getpid()}"[-155:]
            assert put(backend, full, "STARTED")
            assert reads(backend, full, "STARTED")

    def test_get_many_returns_what_is_there(self, backend: Backend) -> None:
        """More ids than fit into one query."""
        ids = [unique() for _ in range(self.many)]
        for id in ids[::100]:
            put(backend, id, "SUCCESS", 1)
        assert set(backend.get_many("task", ids)) == set(ids[::100])
        assert backend.get_many("task", []) == {}

    def test_a_later_state_replaces_an_earlier_one(self, backend: Backend) -> None:
        """STARTED, RETRY, FAILURE may all be replaced."""
        id = unique()
        for state in ("STARTED", "RETRY", "FAILURE", "STARTED", "FAILURE", "SUCCESS"):
            assert put(backend, id, state)
            assert reads(backend, id, state)

    @pytest.mark.parametrize("late", ["FAILURE", "STARTED", "RETRY", "REVOKED", "SUCCESS", "PROGRESS"])
    def test_a_success_is_never_replaced(self, backend: Backend, second: Backend, late: str) -> None:
        """A redelivered task that fails must not take back what the first run gave."""
        id = unique()
        assert put(backend, id, "SUCCESS", 42)
        assert put(second, id, late, "late") is False
        assert reads(backend, id, "SUCCESS", 42)

    def test_of_many_writers_one_success_stays(self, backend: Backend, second: Backend) -> None:
        """Atomic: of many at once exactly one is told that it stored."""
        if not backend.capabilities.atomic:
            pytest.skip("this store cannot write under a condition; it is read before, as Celery does")
        id = unique()
        stored: list[int] = []
        gate = threading.Barrier(8)

        def write(number: int) -> None:
            gate.wait()
            if put(backend if number % 2 else second, id, "SUCCESS", number):
                stored.append(number)

        _together([lambda number=number: write(number) for number in range(8)])
        assert len(stored) == 1
        assert reads(backend, id, "SUCCESS", stored[0])

    def test_forget_deletes(self, backend: Backend) -> None:
        """Also a SUCCESS; then the id is free again."""
        ids = [unique() for _ in range(3)]
        for id in ids:
            put(backend, id, "SUCCESS", 1)
        backend.forget("task", ids[:2])
        assert set(backend.get_many("task", ids)) == {ids[2]}
        assert put(backend, ids[0], "FAILURE")

    def test_an_entry_expires(self, backend: Backend, brief: Backend) -> None:
        """After its time it is gone, cleaned up or not; without a time it stays."""
        ended, lasting = unique(), unique()
        put(brief, ended, "SUCCESS", 1, ttl_s=0.05)
        assert eventually(lambda: brief.get("task", ended) is None)
        assert put(brief, ended, "FAILURE"), "an expired SUCCESS protects nothing"
        if backend.capabilities.lifetimes == "entry":
            put(backend, lasting, "SUCCESS", 1, ttl_s=None)
            assert reads(backend, lasting, "SUCCESS", 1)

    def test_cleanup_deletes_what_expired(self, backend: Backend) -> None:
        """How many is told; a store whose entries end by themselves has nothing to do."""
        id = unique()
        put(backend, id, "SUCCESS", 1, ttl_s=100.0)
        gone = backend.cleanup(time.time() + 1000.0)
        if backend.capabilities.expires and not gone:
            return
        assert gone >= 1
        assert backend.get("task", id) is None

    def test_a_waiter_is_told(self, backend: Backend, second: Backend) -> None:
        """Subscribe, look, wait: nothing falls between the three."""
        id = unique()
        with backend.subscribe([id]) as news:
            assert backend.get("task", id) is None
            writer = threading.Thread(target=put, args=(second, id, "SUCCESS", 7))
            writer.start()
            found = _await(news, id)
            writer.join()
        assert found
        assert reads(backend, id, "SUCCESS", 7)

    def test_a_result_between_subscribe_and_wait_is_told(self, backend: Backend, second: Backend) -> None:
        """A fast task ends before its caller begins to wait."""
        id = unique()
        with backend.subscribe([id]) as news:
            put(second, id, "SUCCESS", 7)
            assert _await(news, id)

    def test_waiting_ends_after_its_time(self, backend: Backend) -> None:
        """None says that nothing came."""
        with backend.subscribe([unique()]) as news:
            began = time.monotonic()
            assert news.wait(0.05) is None
            assert time.monotonic() - began < SOON_S

    def test_others_results_do_not_end_the_wait(self, backend: Backend, second: Backend) -> None:
        """Woken or not, a waiter hears only of its own ids."""
        with backend.subscribe([unique()]) as news:
            for _ in range(20):
                put(second, unique(), "SUCCESS")
            assert not news.wait(0.1)

    def test_many_wait_at_once(self, backend: Backend, second: Backend) -> None:
        """Each hears of its own, some of several, and of shared ones all do."""
        shared = unique()
        own = [unique() for _ in range(12)]
        heard: list[str] = []
        ready = threading.Barrier(len(own) + 1)

        def wait(id: str) -> None:
            with backend.subscribe([id, shared]) as news:
                ready.wait()
                if _await(news, id) and _await_value(backend, news, shared):
                    heard.append(id)

        def write() -> None:
            ready.wait()
            for id in (*own, shared):
                put(second, id, "SUCCESS")

        _together([*(lambda id=id: wait(id) for id in own), write])
        assert sorted(heard) == sorted(own)

    def test_being_woken_is_quick(self, backend: Backend, second: Backend) -> None:
        """Where the store says that it notifies, nobody polls: most wake-ups take a few milliseconds."""
        if not backend.capabilities.notifies:
            pytest.skip("this store does not notify; its waiters poll")
        slow = 0
        for _ in range(20):
            id = unique()
            sent: list[float] = []
            with backend.subscribe([id]) as news:
                waiting = threading.Event()

                def write(id: str = id, waiting: threading.Event = waiting, sent: list[float] = sent) -> None:
                    waiting.wait()
                    sent.append(time.monotonic())
                    put(second, id, "SUCCESS")

                thread = threading.Thread(target=write)
                thread.start()
                waiting.set()
                assert _await(news, id)
                thread.join()
                slow += time.monotonic() - sent[0] > 0.1
        assert slow <= 5, f"{slow} of 20 wake-ups took more than 100 ms"

    def test_a_forked_child_writes_and_the_parent_reads(self, backend: Backend) -> None:
        """Connections are not shared with a child; the child makes its own."""
        if not backend.capabilities.cross_process:
            pytest.skip("this store lives in one process")
        id = unique()
        put(backend, unique(), "STARTED")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if put(backend, id, "SUCCESS", "from the child") else 2
                backend.close()
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert reads(backend, id, "SUCCESS", "from the child")

    def test_close_twice_and_use_again(self, backend: Backend) -> None:
        """Closing lets go; using it again connects again."""
        with backend.subscribe([unique()]) as news:
            news.wait(0.01)
        backend.close()
        backend.close()
        id = unique()
        put(backend, id, "SUCCESS", 1)
        assert reads(backend, id, "SUCCESS", 1)

    def test_a_subscription_closes_twice_and_leaves_nothing(self, backend: Backend) -> None:
        """Hundreds of waits, one after the other, cost no threads and no descriptors."""
        before = (threading.active_count(), _descriptors())
        for _ in range(200):
            subscription = backend.subscribe([unique()])
            subscription.close()
            subscription.close()
        assert threading.active_count() <= before[0] + 1
        assert _descriptors() <= before[1] + 8

    def test_a_chord_runs_on_it(self, store: Store, tmp_path: Path) -> None:
        """A real worker, header and body: counted where the store counts, else found complete by looking."""
        app = Opsq("shop", data_dir=str(tmp_path / "data"), set_as_current=False, **store)
        app.conf.update(result_chord_retry_interval=0.05)
        app.task(name="shop.add")(lambda x, y: x + y)
        app.task(name="shop.total")(sum)
        add, total = app.tasks["shop.add"], app.tasks["shop.total"]
        with running_worker(app, pool="threads", concurrency=2):
            whole = chord([add.s(n, n) for n in range(5)], total.s() | add.s(100))
            assert whole.apply_async().get(timeout=LONG_S) == 120
        app.close()


def eventually(is_true: Callable[[], bool], within_s: float = SOON_S) -> bool:
    """Ask until it is true; false when it did not become so in time."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not is_true():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.005)
    return True


def _await(news: Any, id: str) -> bool:
    deadline = time.monotonic() + LONG_S
    while time.monotonic() < deadline:
        if id in (news.wait(deadline - time.monotonic()) or ()):
            return True
    return False


def _await_value(backend: Backend, news: Any, id: str) -> bool:
    # Told of both in one go, a waiter hears nothing more: so look before waiting, as real waiters do.
    return backend.get("task", id) is not None or _await(news, id) or backend.get("task", id) is not None


def _together(jobs: list[Any]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=LONG_S)
    assert not any(thread.is_alive() for thread in threads), "a thread never ended"


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
