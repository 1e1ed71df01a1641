"""Events: round trips, arrays and objects, unknown kinds as data, bad ones as values."""

from __future__ import annotations

import datetime
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.wire.content import accept_set, dumps
from opsq.wire.event import (
    COMMON_FIELDS,
    EVENT_KINDS,
    SAMPLE_MAX_CHARS,
    Event,
    Field,
    Malformed,
    encode_event,
    encode_events,
    event_to_wire,
    parse_events,
    routing_key,
)
from opsq.wire.limits import Limits

OPSQ_FIELDS = {
    "seq emitter queue routing_key published_at delivered_at slot_at started_at finished_at acked_at attempt cpu_s "
    "rss_bytes pool child_pid fingerprint slots busy prefetch queues cpu_share dropped quarantined "
    "exception answer arguments command complete current first left_out lines message paused payload total version "
    "group_id asked due_at id late_s missed name sent_at task "
    "applied bounds capped_by group have hold max min mode noisy preset running signals slo spent starting target text "
    "want winner brings due freq last_at last_id"
}
BASE = {"hostname": "w1@host", "utcoffset": 0.0, "pid": 1, "clock": 2, "timestamp": 1795229074.1684263}

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "text": text,
    "number": st.floats(0, 1e10) | st.integers(0, 10**9),
    "whole": st.integers(-(2**63), 2**63 - 1),
    "flag": st.booleans(),
    "list": st.lists(st.floats(0, 10)),
    "object": st.dictionaries(text, text),
    "any": st.none() | text | st.lists(text),
    "whole|text": st.integers(0, 64) | text,
}


def value_of(field: Field) -> st.SearchStrategy[Any]:
    found = STRATEGIES[field.types]
    if field.required:
        return found.filter(bool) if field.types == "text" else found
    return st.none() | found if field.nullable else found


@st.composite
def wire_events(draw: st.DrawFn) -> dict[str, Any]:
    kind = EVENT_KINDS[draw(st.sampled_from(sorted(EVENT_KINDS)))]
    wire: dict[str, Any] = {**BASE, "type": kind.name}
    for field in (*COMMON_FIELDS[3:], *kind.fields):
        if field.required or draw(st.booleans()):
            wire[field.name] = draw(value_of(field))
    wire["timestamp"] = draw(st.floats(0, 1e10))
    return wire


def parse_one(wire: dict[str, Any]) -> Event | Malformed:
    (found,) = parse_events(json.dumps(wire).encode())
    return found


def received(**changes: object) -> dict[str, Any]:
    wire = {**BASE, "type": "task-received", "uuid": "u", "name": "t", **changes}
    return {key: value for key, value in wire.items() if value != "absent"}


@given(wires=st.lists(wire_events(), max_size=4))
def test_every_kind_round_trips(wires: list[dict[str, Any]]) -> None:
    found = parse_events(encode_events(wires))
    events = [each for each in found if isinstance(each, Event)]
    assert len(events) == len(wires), found
    for wire, event in zip(wires, events, strict=True):
        # What is null and common is the same as absent.
        assert {k: v for k, v in event_to_wire(event).items() if v is not None} == {
            k: v for k, v in wire.items() if v is not None
        }


def test_one_event_alone_and_in_an_array() -> None:
    wire = received()
    (event,) = parse_events(encode_events([wire]))
    assert encode_events([wire]).startswith(b"[")
    assert parse_events(encode_event(wire)) == [event] == parse_events(json.dumps(wire))
    assert isinstance(event, Event)
    assert (event.kind, event.uuid, event.group, event.fields) == ("task-received", "u", "task", {"name": "t"})
    assert parse_events(b"[]") == []


def test_the_timestamp_is_kept_as_sent() -> None:
    event = parse_one(received(utcoffset=-5))
    assert isinstance(event, Event)
    assert (event.timestamp, event.utcoffset) == (1795229074.1684263, -5)


def test_unknown_kinds_and_fields_are_data() -> None:
    event = parse_one({**BASE, "type": "order-shipped", "uuid": None, "args": [1], "weight": {"kg": 3}})
    assert isinstance(event, Event)
    assert event.fields == {"args": [1], "weight": {"kg": 3}}
    event = parse_one(received(future=[1]))
    assert isinstance(event, Event)
    assert event.fields["future"] == [1]


@pytest.mark.parametrize(
    ("wire", "problem"),
    [
        (received(uuid=5), "task-received: field 'uuid' must not be int"),
        (received(uuid="absent"), "task-received: field 'uuid' is missing"),
        (received(uuid=""), "task-received: field 'uuid' is missing"),
        (received(hostname="absent"), "task-received: field 'hostname' is missing"),
        (received(hostname=None), "task-received: field 'hostname' must not be NoneType"),
        (received(timestamp="absent"), "task-received: field 'timestamp' is missing"),
        (received(timestamp="now"), "task-received: field 'timestamp' must not be str"),
        (received(timestamp=-1), "task-received: timestamp -1 is not epoch seconds"),
        (received(timestamp=1795229074168), "task-received: timestamp 1795229074168 is not epoch seconds"),
        (received(timestamp=float("nan")), "task-received: timestamp nan is not epoch seconds"),
        (received(args=[1]), "task-received: field 'args' must not be list"),
        (received(pid=True), "task-received: field 'pid' must not be bool"),
        (received(clock=2**63), "task-received: field 'clock' is out of range"),
        (received(future=2**70), "task-received: field 'future' is out of range"),
        (received(seq="1"), "task-received: field 'seq' must not be str"),
        (received(type=5), "an event must have the text field 'type'"),
        (received(type=""), "an event must have the text field 'type'"),
        ({**BASE, "type": "custom-thing", "uuid": 5}, "custom-thing: field 'uuid' must not be int"),
    ],
)
def test_what_is_wrong_with_an_event_is_said(wire: dict[str, Any], problem: str) -> None:
    found = parse_one(wire)
    assert isinstance(found, Malformed)
    assert found.reason == problem
    assert found.sample


def test_one_bad_event_does_not_spoil_the_others() -> None:
    found = parse_events(json.dumps([received(), 5, received(args=1), received(uuid="v")]).encode())
    assert [type(each) for each in found] == [Event, Malformed, Malformed, Event]


@pytest.mark.parametrize(
    ("data", "content_type", "problem"),
    [
        (b"", "application/json", "expected JSON"),
        (b"\xff" * 5000, "application/json", "expected JSON text in UTF-8"),
        (b"{", "application/json", "expected JSON"),
        (b"5", "application/json", "an event must be an object, got int"),
        (b"[" * 5000, "application/json", "nested too deeply"),
        (b"[" + b"[" * 150 + b"]" * 150 + b"]", "application/json", "nested deeper than 100"),
        (b"{}", "application/x-python-serialize", "is not accepted here"),
        (b"{}", None, "is not accepted here"),
    ],
)
def test_messages_that_cannot_be_read(data: bytes, content_type: str | None, problem: str) -> None:
    (found,) = parse_events(data, content_type)
    assert isinstance(found, Malformed)
    assert problem in found.reason
    assert len(found.sample) <= SAMPLE_MAX_CHARS


def test_size_is_bounded() -> None:
    (found,) = parse_events(encode_event(received()), limits=Limits(max_bytes=50))
    assert isinstance(found, Malformed)
    assert "message_max_bytes" in found.reason


def test_other_serializers_when_accepted() -> None:
    for name in ("yaml", "msgpack"):
        data, content_type, encoding = dumps([received()], name)
        (event,) = parse_events(data, content_type, encoding, accept=accept_set(["json", name]))
        assert isinstance(event, Event)
    data, content_type, encoding = dumps({**received(), 5: 6}, "yaml")
    (found,) = parse_events(data, content_type, encoding, accept=accept_set(["yaml"]))
    assert isinstance(found, Malformed)


@given(data=st.binary(max_size=100) | st.text(alphabet='[]{}",:type0eNa', max_size=40))
def test_arbitrary_bytes_never_raise(data: bytes | str) -> None:
    assert all(isinstance(each, (Event, Malformed)) for each in parse_events(data))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers())
names = st.sampled_from([each.name for each in COMMON_FIELDS] + ["uuid", "args", "runtime", "result", "x"])


@given(wire=st.dictionaries(names, scalars), kind=st.sampled_from(sorted(EVENT_KINDS)))
def test_arbitrary_fields_never_raise(wire: dict[str, Any], kind: str) -> None:
    assert isinstance(parse_one({"type": kind, **wire}), (Event, Malformed))


def test_unusual_values_are_written_all_the_same() -> None:
    custom = {**BASE, "type": "task-tasted", "uuid": "u", "when": datetime.date(2030, 1, 2)}
    (event,) = parse_events(encode_events([custom, received()])[:0] or encode_events([custom]))
    assert isinstance(event, Event)
    assert event.fields == {"when": datetime.date(2030, 1, 2)}
    (event,) = parse_events(encode_events([received(args="\ud800")]))
    assert isinstance(event, Event)
    assert event.fields["args"] == "\ud800"


def test_routing_keys() -> None:
    assert routing_key("task-received") == "task.received"
    assert routing_key("worker-elect-ack") == "worker.elect.ack"


def test_the_table_is_complete_and_documented() -> None:
    (named,) = OPSQ_FIELDS
    ours = {each.name for kind in EVENT_KINDS.values() for each in kind.fields if each.origin == "opsq"}
    ours |= {each.name for each in COMMON_FIELDS if each.origin == "opsq"}
    assert ours | {"queue", "routing_key"} == set(named.split())
    for name, kind in EVENT_KINDS.items():
        assert name == kind.name
        assert kind.doc.endswith(".")
        fields = [each.name for each in kind.fields]
        assert len(fields) == len(set(fields)), name
        assert all(each.doc.endswith(".") for each in (*kind.fields, *COMMON_FIELDS))


def test_a_full_batch_is_fast_enough() -> None:
    # A guard against falling off the fast path, with much room for a busy machine.
    wires = [received(uuid=str(number), published_at=1.5, attempt=1) for number in range(100)]
    data = encode_events(wires)

    def best_of(work: Any) -> float:
        times = []
        for _round in range(20):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    assert best_of(lambda: parse_events(data)) < 0.0015
    assert best_of(lambda: encode_events(wires)) < 0.00075
