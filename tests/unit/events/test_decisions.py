"""Decisions about slots: from the event to the row and back, whatever somebody else's emitter says."""

from __future__ import annotations

from typing import Any

import pytest

from opsq.autoscale.decision import History
from opsq.autoscale.observation import Machine, Observation, QueueView
from opsq.autoscale.policy import decide
from opsq.autoscale.presets import Limits
from opsq.autoscale.record import record_of
from opsq.events.cluster import Cluster
from opsq.events.decisions import DECIDED, MOST_BYTES, item_of, row_of
from opsq.events.store import MemoryStore
from opsq.wire.event import EVENT_KINDS, Event, Malformed, encode_events, event_to_wire, parse_events

T0 = 1_790_000_000.0


def decided(at: float = T0, **fields: Any) -> Event:
    whole = {"group": "g", "have": 1, "want": 3, "target": 3, **fields}
    return Event(kind=DECIDED, hostname="w1@here", timestamp=at, emitter="e1", seq=1, fields=whole)


def a_record() -> dict[str, Any]:
    queue = QueueView(name="mail", depth=40.0, ages=(2.0, 1.0), rate=8.0, service_s=0.5)
    machine = Machine(cpu_share=0.5, cores=2.0, memory_limit=1e9, memory_used=2e8, child_bytes=5e7)
    seen = Observation(at=10.0, have=1, running=1, queues=(queue,), machine=machine)
    limits = Limits(most=32)
    return record_of("w1@here", seen, decide(seen, History(), limits), limits, applied=5)


def test_a_record_goes_over_the_wire_and_comes_back_whole() -> None:
    record = a_record()
    event = Event(kind=DECIDED, hostname="w1@here", timestamp=T0, fields={**record, "queues": ["mail"]})
    (parsed,) = parse_events(encode_events([event_to_wire(event)]))
    assert not isinstance(parsed, Malformed), parsed
    assert set(parsed.fields) == {field.name for field in EVENT_KINDS[DECIDED].fields} - {"capped_by"} | (
        {"capped_by"} if "capped_by" in parsed.fields else set()
    )
    row = row_of(parsed)
    assert row is not None
    item = item_of(row)
    assert (item.group, item.have, item.applied, item.text) == ("w1@here", 1, 5, record["text"])
    assert item.changed
    assert {bound.name for bound in item.bounds} >= {"steady", "drain", "useful", "cpu", "memory"}
    signal = item.signal("waiting", "mail")
    assert signal is not None
    assert (signal.value, signal.unit, signal.age_s) == (40.0, "tasks", 0.0)


@pytest.mark.parametrize(
    "fields", [{"have": -1}, {"want": "many"}, {"target": None}, {"have": 2**40}, {"have": True}, {"target": 1.5}]
)
def test_without_its_figures_it_is_no_decision(fields: dict[str, Any]) -> None:
    assert row_of(decided(**fields)) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"bounds": [["a"]] * 3}, {"bounds": "none"}, {"signals": [[1, 2, 3, 4]]}, {"text": "x" * MOST_BYTES},
        {"min": "two"}, {"unknown": {"a": [1]}}, {"text": "\ud800"}, {"group": "a\0b"}, {"group": "x" * 1000},
    ],
)  # fmt: skip
def test_whatever_else_it_says_the_figures_are_kept(fields: dict[str, Any]) -> None:
    row = row_of(decided(**fields))
    assert row is not None
    item = item_of(row)
    assert (item.have, item.want, item.target) == (1, 3, 3)
    assert "\0" not in item.group
    assert len(item.group) <= 256


def test_the_fold_keeps_each_once_and_counts_what_it_cannot() -> None:
    store = MemoryStore()
    cluster = Cluster(store)
    cluster.apply([decided(), decided(), decided(T0 + 1, target=1), decided(T0 + 2, have="?")], T0 + 3)
    store.write(cluster.take())
    cluster.apply([decided()], T0 + 4)
    store.write(cluster.take())
    assert [row.at for row in store.decisions(0, T0 + 9)] == [T0 + 1, T0]
    assert [row.at for row in store.decisions(0, T0 + 9, changed=True)] == [T0]
    assert [row.at for row in store.latest_decisions(0)] == [T0 + 1]
    assert cluster.decisions.dropped == 1
