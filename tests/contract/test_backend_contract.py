"""Every result store that is registered passes the same suite."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis as redis_client

from opsq.clock import ManualClock
from opsq.core.backends.base import Backend
from opsq.core.backends.memory import MemoryBackend
from opsq.core.backends.redis import RedisBackend
from opsq.core.backends.registry import open_backend
from opsq.core.backends.sqlite import SqliteBackend
from opsq.settings import Settings
from opsq.testing.contract_backend import BackendContract, Store, eventually, payload, put, unique
from tests.servers import RedisServer, redis_server


class TestSqlite(BackendContract):
    """SQLite in a file."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """A new file."""
        return {"result_backend": f"sqlite:///{tmp_path}/results.db"}

    def test_the_file_shrinks_by_itself_in_use(self, tmp_path: Path) -> None:
        """Without anybody calling cleanup, a laptop's file does not grow for ever."""
        clock = ManualClock()
        backend = SqliteBackend(f"{tmp_path}/swept.db", clock)
        put(backend, "old", "SUCCESS", ttl_s=10)
        clock.advance(100)
        put(backend, "new", "SUCCESS", ttl_s=10)
        assert backend.cleanup(clock.now()) == 0, "the put swept it already"
        assert backend.get("task", "old") is None
        backend.close()

    def test_a_forgotten_newest_entry_does_not_hide_the_next(self, backend: Backend) -> None:
        """Change numbers are never used again, or a waiter would miss what took one over."""
        id = unique()
        put(backend, "first", "SUCCESS")
        with backend.subscribe([id]) as news:
            put(backend, "second", "SUCCESS")
            assert not news.wait(0.02)
            backend.forget("task", ["first", "second"])
            put(backend, id, "SUCCESS")
            assert news.wait(30.0) == {id}


class TestRedis(BackendContract):
    """Redis, a real one."""

    @pytest.fixture
    def store(self, redis: RedisServer) -> Store:
        """This run's server."""
        return {"result_backend": redis.url}

    def test_keys_and_channel_are_celerys(self, redis: RedisServer) -> None:
        """Key, channel, value and time to live, with and without a prefix."""
        plain = RedisBackend(redis.url)
        prefixed = open_backend(redis.url, Settings(result_backend_transport_options={"global_keyprefix": "shop"}))
        client = redis_client.from_url(redis.url)
        listener = client.pubsub()
        listener.psubscribe("*celery-task-meta-*")
        id = unique()
        put(plain, id, "SUCCESS", 4, ttl_s=86400)
        put(prefixed, id, "SUCCESS", 4)
        assert client.get(f"celery-task-meta-{id}") == payload(id, "SUCCESS", 4)
        assert client.get(f"shop_celery-task-meta-{id}") == payload(id, "SUCCESS", 4)
        assert 86390 < client.ttl(f"celery-task-meta-{id}") <= 86400
        told = [listener.get_message(timeout=30.0) for _ in range(3)]
        channels = [(each["channel"], each["data"]) for each in told if each and each["type"] == "pmessage"]
        assert channels == [
            (f"celery-task-meta-{id}".encode(), payload(id, "SUCCESS", 4)),
            (f"shop_celery-task-meta-{id}".encode(), payload(id, "SUCCESS", 4)),
        ]
        listener.close()
        plain.close()
        prefixed.close()

    def test_a_success_written_by_celery_is_not_replaced(self, redis: RedisServer) -> None:
        """Celery writes blanks after colons; pickle and yaml look different altogether."""
        backend = RedisBackend(redis.url)
        client = redis_client.from_url(redis.url)
        for stored in (b'{"status": "SUCCESS", "result": 1}', b"\x80\x04}\x94(\x8c\x06status\x94\x8c\x07SUCCESS\x94u."):
            id = unique()
            client.set(f"celery-task-meta-{id}", stored)
            assert put(backend, id, "FAILURE") is False
            assert client.get(f"celery-task-meta-{id}") == stored
        backend.close()

    def test_waiters_survive_a_lost_connection(self, tmp_path: Path) -> None:
        """After a reconnect everybody looks again, so a result announced in between is found."""
        with redis_server(tmp_path) as server:
            backend, writer = RedisBackend(server.url), RedisBackend(server.url)
            id = unique()
            with backend.subscribe([id]) as news:
                server.stop()
                server.start()
                assert eventually(lambda: put(writer, id, "SUCCESS", 1) or writer.get("task", id) is not None)
                assert eventually(lambda: id in (news.wait(1.0) or ()), 60.0)
                assert backend.get("task", id) == payload(id, "SUCCESS", 1)
            backend.close()
            writer.close()


class TestMemory(BackendContract):
    """This process's memory."""

    @pytest.fixture
    def store(self) -> Store:
        """A new one each."""
        return {"result_backend": "memory://"}

    def test_it_is_bounded_and_counts(self) -> None:
        """The oldest goes."""
        backend = MemoryBackend(max_entries=3)
        for number in range(5):
            put(backend, str(number), "SUCCESS")
        assert sorted(backend.get_many("task", ["0", "1", "2", "3", "4"])) == ["2", "3", "4"]
        assert backend.evicted == 2


def test_the_address_of_redis_may_come_in_parts(redis: RedisServer) -> None:
    """Settings from before URLs are used where the URL leaves them out."""
    opened = open_backend("redis", Settings(redis_host="127.0.0.1", redis_port=redis.port, redis_db=3))
    id = unique()
    put(opened, id, "SUCCESS", 1)
    assert redis_client.from_url(redis.url.replace("/0", "/3")).exists(f"celery-task-meta-{id}")
    opened.close()
