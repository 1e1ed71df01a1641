"""A history that a monitor writes, read beside it: what ``opsq why`` sees without a monitor of its own."""

from __future__ import annotations

from pathlib import Path

from opsq.events.cluster import Cluster
from opsq.events.diagnosis.answers import NOT_LOOKED
from opsq.events.diagnosis.diagnose import diagnose
from opsq.events.diagnosis.gather import question_of, sight, task_case
from opsq.events.diagnosis.records import plain
from opsq.events.query import Query
from opsq.events.stores import open_beside, open_store
from opsq.events.views import Views
from opsq.testing.contract_store import T0, life
from opsq.wire.event import Event


def test_a_case_is_gathered_while_the_monitor_writes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    writing = open_store(url)
    cluster = Cluster(writing)
    said = {"freq": 2.0, "processed": 0, "active": 0, "sw_ident": "opsq", "slots": 1, "queues": ["celery"]}
    online = Event(kind="worker-online", hostname="opsq@one", timestamp=T0, pid=1, fields=said, seq=1, emitter="e")
    cluster.apply([online, *life("a", T0, name="shop.x")[:1]], T0 + 1)
    writing.write(cluster.take())
    reading = open_beside(url)
    try:
        beside = Cluster(reading)
        query, views = Query(reading, beside), Views(reading, beside)
        task = query.task("a")
        assert task is not None
        assert [worker.name for worker in query.workers()] == ["opsq@one"]
        assert question_of(query, task, "celery").id == "a"
        found = diagnose(task_case(sight(query, views), task, NOT_LOOKED, now=T0 + 5, lease_s=30.0))
        assert found.task == "a"
        assert plain(found.sentence)
        assert found.lacks == ("the workers were not asked",)
    finally:
        reading.close()
        writing.close()
