"""What a real Celery 5.7 wrote is read, field by field, and written back the same.

The files come from ``capture_golden.py``; no Celery is needed here.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from opsq.wire import task
from opsq.wire.content import accept_set, decompress
from opsq.wire.control import encode_reply, encode_request, parse_reply, parse_request
from opsq.wire.event import EVENT_KINDS, Event, encode_events, event_to_wire, parse_events
from opsq.wire.exceptions import exception_from_wire
from opsq.wire.jsonext import dumps_json
from opsq.wire.result import decode_document, decode_result, parse_ref, ref_to_wire, result_to_wire
from opsq.wire.signature import Call, Chord, Group, parse_signature, signature_to_wire
from opsq.wire.states import EXCEPTION_STATES
from opsq.wire.times import parse_epoch

GOLDEN = Path(__file__).parent / "golden"
ALL = accept_set(["json", "pickle", "yaml", "msgpack"])


def load(name: str) -> list[Any]:
    """The messages of one file, as parameters named after them."""
    document = json.loads((GOLDEN / f"{name}.json").read_text())
    assert document["celery"] == "5.7.0"
    return [pytest.param(each, id=each["name"]) for each in document["messages"]]


def body_of(message: dict[str, Any]) -> bytes:
    return base64.b64decode(message["body"])


def decode(message: dict[str, Any]) -> tuple[task.TaskHeaders, task.TaskBody]:
    return task.decode_message(
        body_of(message),
        message["content_type"],
        message["content_encoding"],
        message["headers"],
        message["properties"],
        accept=ALL,
    )


def by_name(file: str, name: str) -> dict[str, Any]:
    return next(each.values[0] for each in load(file) if each.id == name)  # type: ignore[return-value]


@pytest.mark.parametrize("message", load("tasks_v2"))
def test_headers_are_read_and_written_back(message: dict[str, Any]) -> None:
    headers = task.parse_headers(message["headers"])
    assert headers.id == message["properties"]["correlation_id"]
    assert headers.task == message["headers"]["task"]
    assert task.headers_to_wire(headers) == message["headers"]


@pytest.mark.parametrize("message", load("tasks_v2"))
def test_body_is_read_and_written_back(message: dict[str, Any]) -> None:
    raw, name = body_of(message), message["content_type"]
    _headers, body = decode(message)
    again = task.encode_body(body, {kind: each for each, kind in _serializers().items()}[name])
    assert again[1:3] == (message["content_type"], message["content_encoding"])
    compression = message["headers"].get("compression")
    plain = decompress(raw, compression) if compression else raw
    if name != "application/x-python-serialize":
        assert again[0] == plain
    assert task.decode_body(*again[:3], None, accept=ALL) == body


def _serializers() -> dict[str, str]:
    return {name: next(iter(accept_set([name]))) for name in ("json", "pickle", "yaml", "msgpack")}


@pytest.mark.parametrize("message", load("tasks_v2"))
def test_signatures_in_the_embed_are_read_and_written_back(message: dict[str, Any]) -> None:
    embed = decode(message)[1].embed
    for wire in [*(embed.callbacks or ()), *(embed.errbacks or ()), *(embed.chain or ())]:
        assert signature_to_wire(parse_signature(wire)) == wire
    if embed.chord is not None:
        assert signature_to_wire(parse_signature(embed.chord)) == embed.chord


@pytest.mark.parametrize("message", load("tasks_v1"))
def test_protocol_1_is_read(message: dict[str, Any]) -> None:
    assert not task.is_protocol2(message["headers"])
    headers, body = decode(message)
    assert headers.id == message["properties"]["correlation_id"] == headers.root_id
    assert headers.task.startswith(("golden_app.", "celery."))
    if message["content_type"] == "application/json" and "compression" not in message["headers"]:
        document = json.loads(body_of(message))
        assert (headers.retries, headers.eta, headers.expires) == (
            document["retries"],
            document["eta"],
            document["expires"],
        )
        assert list(headers.timelimit) == document["timelimit"]
        assert headers.group == document["taskset"]
        assert (body.embed.callbacks, body.embed.chord) == (document["callbacks"], document["chord"])


def test_options_of_both_protocols_mean_the_same() -> None:
    for file in ("tasks_v2", "tasks_v1"):
        headers, body = decode(by_name(file, "options"))
        assert headers.timelimit == (30, 20)
        assert headers.user == {"my": 1, "user": "u"}
        assert headers.eta is not None
        assert parse_epoch(headers.eta) == pytest.approx(1893553445.000006)
        assert (body.args, body.kwargs) == ([2, 2], {})
        assert body.embed.callbacks is not None
        assert parse_signature(body.embed.callbacks[0]) == Call(task="golden_app.tsum")


def test_a_chain_is_reversed_and_its_group_is_a_chord() -> None:
    embed = decode(by_name("tasks_v2", "chain"))[1].embed
    assert embed.chain is not None
    assert [parse_signature(each).args for each in embed.chain] == [(5, 6), (3,)]
    embed = decode(by_name("tasks_v2", "chain-chord"))[1].embed
    assert embed.chain is not None
    chord = parse_signature(embed.chain[-1])
    assert isinstance(chord, Chord)
    assert isinstance(chord.header, Group)
    assert isinstance(chord.body, Call)
    assert len(chord.header.tasks) == 2


def test_stamps_and_retry() -> None:
    headers, _body = decode(by_name("tasks_v2", "stamps"))
    assert headers.stamps == {"mid": ["a", "b"], "header": "h"}
    assert set(headers.stamped_headers or ()) == {"mid", "header"}
    headers, _body = decode(by_name("tasks_v2", "retry-republished"))
    assert (headers.retries, headers.parent_id) == (1, headers.id)


@pytest.mark.parametrize("message", load("events"))
def test_events_are_read_and_written_back(message: dict[str, Any]) -> None:
    raw = body_of(message)
    events = parse_events(raw, message["content_type"], message["content_encoding"])
    document = json.loads(raw)
    originals = document if isinstance(document, list) else [document]
    assert all(isinstance(each, Event) for each in events), events
    assert [event_to_wire(each) for each in events if isinstance(each, Event)] == originals
    assert [each.kind for each in events if isinstance(each, Event)] == message["what"].split("+")
    assert json.loads(encode_events(originals)) == originals


def test_the_table_names_every_field_celery_sends() -> None:
    for parameter in load("events"):
        message: Any = parameter.values[0]
        for event in parse_events(body_of(message)):
            assert isinstance(event, Event)
            kind = EVENT_KINDS.get(event.kind)
            if kind is not None and kind.origin != "opsq":  # a program's own event may share its name with one of ours
                assert event.fields.keys() <= {field.name for field in kind.fields}, event.kind


@pytest.mark.parametrize("message", [each for each in load("control") if str(each.id).startswith("request")])
def test_control_requests(message: dict[str, Any]) -> None:
    raw, headers = body_of(message), message["headers"]
    request = parse_request(raw, message["content_type"], message["content_encoding"], headers)
    again = encode_request(request)
    assert (json.loads(again[0]), again[3]) == (json.loads(raw), headers)


@pytest.mark.parametrize("message", [each for each in load("control") if str(each.id).startswith("reply")])
def test_control_replies(message: dict[str, Any]) -> None:
    raw, headers = body_of(message), message["headers"]
    reply = parse_reply(raw, message["content_type"], message["content_encoding"], headers)
    assert reply.hostname == "w1@host"
    again = encode_reply(reply)
    assert (json.loads(again[0]), again[3]) == (json.loads(raw), headers)
    assert (reply.error is not None) == (b'"error"' in raw)


@pytest.mark.parametrize("message", [each for each in load("results") if each.values[0]["kind"] == "task"])  # type: ignore[index]
def test_results(message: dict[str, Any]) -> None:
    raw, serializer = body_of(message), message["serializer"]
    meta = decode_result(raw, serializer)
    assert meta.task_id == message["id"]
    assert result_to_wire(meta) == decode_document(raw, serializer)
    assert meta.other == {}
    if serializer == "json" and not raw.startswith(b"\0"):
        assert dumps_json(result_to_wire(meta)) == raw
    for child in meta.children or ():
        assert ref_to_wire(parse_ref(child)) == child
    if meta.status in EXCEPTION_STATES:
        assert isinstance(exception_from_wire(meta.result), Exception)


def test_extended_results_and_saved_groups() -> None:
    meta = decode_result(body_of(by_name("results", "extended-stamped")))
    assert (meta.extended, meta.name, meta.args, meta.queue) == (True, "golden_app.add", [1, 1], "golden")
    assert meta.stamps == {"mid": ["a"]}
    saved = by_name("results", "plain-saved-group")
    document: Any = decode_document(body_of(saved))
    group = parse_ref(document["result"])
    assert group.id == saved["id"]
    assert group.children is not None
    assert len(group.children) == 2
    assert ref_to_wire(group) == document["result"]
