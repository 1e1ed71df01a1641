"""Every schedule store keeps the same promises: one leader, a growing number, writes of the leader only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.core.schedules.store import STORES, ScheduleStore, open_store, store_url
from opsq.errors import ConfigError
from tests.servers import redis_server
from tests.servers_sql import history_server, new_database

KINDS = ("sqlite", "redis", "postgresql")


@pytest.fixture(scope="module", params=KINDS)
def make_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("store")
    made: list[ScheduleStore] = []

    def make(url: str) -> ScheduleStore:
        app = Opsq("s", broker="memory://", set_as_current=False, beat_store_url=url)
        made.append(open_store(app.settings))
        app.close()
        return made[-1]

    if request.param == "sqlite":
        yield lambda: make(f"sqlite:///{folder / 'beat.db'}")
    elif request.param == "redis":
        with redis_server(folder) as server:
            yield lambda: make(server.url)
    else:
        with history_server() as server:
            url = new_database(server)
            yield lambda: make(url)
            for store in made:
                store.close()
    for store in made:
        store.close()


def test_every_store_is_in_the_matrix() -> None:
    assert {path.partition(":")[0] for path in STORES.values()} == {STORES[kind].partition(":")[0] for kind in KINDS}


def test_one_leads_and_only_it_writes(make_store: Any) -> None:
    first, second = make_store(), make_store()
    token = first.acquire("a", 5)
    assert token is not None
    assert second.acquire("b", 5) is None
    assert first.write(token, {"state:x": b"1", "y z:\u00e9": bytes(range(256))})
    assert second.read()["y z:\u00e9"] == bytes(range(256))
    assert first.renew(token, 5)
    assert first.acquire("a", 5) == token + 1  # by itself again, under a new number
    assert not first.write(token, {"state:x": b"0"})
    assert not first.renew(token, 5)
    first.release(token + 1)
    assert second.leader() is None
    later = second.acquire("b", 5)
    assert later is not None
    assert later > token + 1
    leader = first.leader()
    assert leader is not None
    assert (leader.holder, leader.token) == ("b", later)
    assert 0 < leader.left_s <= 5
    assert second.write(later, {"state:x": None})
    assert "state:x" not in first.read()
    first.release(token)  # an old number releases nothing
    assert second.leader() is not None
    second.release(later)


def test_a_lease_ends_by_itself(make_store: Any) -> None:
    first, second = make_store(), make_store()
    token = first.acquire("short", 0.2)
    assert token is not None
    pause = threading.Event()
    found = None
    for _ in range(200):
        found = second.acquire("next", 5)
        if found is not None:
            break
        pause.wait(0.02)
    assert found is not None
    assert not first.write(token, {"late": b""})
    assert "late" not in second.read()
    second.release(found)


def test_where_it_is_kept(tmp_path: Path) -> None:
    def place(**settings: Any) -> str:
        app = Opsq("p", data_dir=str(tmp_path), set_as_current=False, **settings)
        found = store_url(app.settings)
        app.close()
        return found

    assert place() == f"sqlite:///{tmp_path}/beat.db"
    assert place(broker="redis://h/1") == "redis://h/1"
    assert place(broker="redis://h/1", beat_schedule_filename=str(tmp_path / "x")) == f"sqlite:///{tmp_path}/x"
    assert place(broker="amqp://", beat_store_url="postgresql://h/db") == "postgresql://h/db"
    app = Opsq("q", beat_store_url="mongodb://h", set_as_current=False)
    with pytest.raises(ConfigError, match="expected one of"):
        open_store(app.settings)
    app.close()
