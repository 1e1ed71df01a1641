"""Task messages: round trips, the poison table of the protocol, and arbitrary input."""

from __future__ import annotations

import contextlib
import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.errors import MalformedMessage, UntrustedContent
from opsq.wire import task
from opsq.wire.content import JSON_ONLY, Limits, accept_set
from opsq.wire.protocol1 import UTC_HEADER
from opsq.wire.task import Embed, TaskBody, TaskHeaders

JSON = ("application/json", "utf-8")
ALL = accept_set(["json", "pickle", "yaml", "msgpack"])
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

text = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=12)
maybe = st.none() | text
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(text, plain, max_size=3)
seconds = st.none() | st.integers(0, 10**6) | st.floats(0, 1e6)
headers_of = st.builds(
    TaskHeaders,
    id=text.filter(bool),
    task=text.filter(bool),
    shadow=maybe,
    eta=maybe,
    expires=maybe,
    group=maybe,
    group_index=st.none() | st.integers(0, 10**6),
    retries=st.integers(0, 10**6),
    timelimit=st.tuples(seconds, seconds),
    root_id=maybe,
    parent_id=maybe,
    argsrepr=maybe,
    kwargsrepr=maybe,
    origin=maybe,
    ignore_result=st.none() | st.booleans(),
    replaced_task_nesting=st.integers(0, 100),
    stamped_headers=st.none() | st.lists(text, max_size=2),
    stamps=objects,
    compression=maybe,
    user=st.dictionaries(text.filter(lambda name: name not in TaskHeaders.__struct_fields__), plain, max_size=3),
)
signatures = st.none() | st.lists(objects, max_size=2)
bodies = st.builds(
    TaskBody,
    st.lists(plain, max_size=3),
    objects,
    st.builds(Embed, callbacks=signatures, errbacks=signatures, chain=signatures, chord=st.none() | objects),
)


def body_bytes(*parts: object) -> bytes:
    return json.dumps(parts[0] if len(parts) == 1 else parts).encode()


def wire_headers(**changes: object) -> dict[str, Any]:
    wire = task.headers_to_wire(TaskHeaders(id="i", task="t"))
    return {key: value for key, value in {**wire, **changes}.items() if value != "absent"}


@given(headers=headers_of)
def test_headers_round_trip(headers: TaskHeaders) -> None:
    wire = json.loads(json.dumps(task.headers_to_wire(headers)))
    assert task.parse_headers(wire) == headers


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip"])
@given(body=bodies)
def test_bodies_round_trip(serializer: str, compression: str | None, body: TaskBody) -> None:
    data, content_type, encoding, header = task.encode_body(body, serializer, compression)
    assert (header is None) == (compression is None)
    assert task.decode_body(data, content_type, encoding, header, accept=ALL) == body


def test_wire_order_and_user_headers() -> None:
    headers = TaskHeaders(id="i", task="t", user={"my": 1, "lang": "rust", "user": "u"})
    wire = task.headers_to_wire(headers)
    assert list(wire)[:3] == ["lang", "task", "id"]
    assert (wire["lang"], wire["my"], wire["user"]) == ("rust", 1, "u")
    assert "compression" not in wire
    assert task.parse_headers(wire).user == {"my": 1, "user": "u"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "absent"}, "header 'id' is missing at $headers.id"),
        ({"id": ""}, "header 'id' must be text and not empty, got ''"),
        ({"id": None}, "header 'id' must be text and not empty, got None"),
        ({"id": 5}, "header 'id' must be text and not empty, got 5"),
        ({"task": ["t"]}, "header 'task' must be text and not empty, got list of 1"),
        ({"timelimit": [5]}, "timelimit must be [hard, soft], got list of 1 at $headers.timelimit"),
        ({"timelimit": 5}, "timelimit must be [hard, soft], got 5"),
        ({"timelimit": [1, 2, 3]}, "timelimit must be [hard, soft], got list of 3"),
        ({"timelimit": ["x", None]}, "a time limit must be seconds or null, got 'x'"),
        ({"timelimit": [True, None]}, "a time limit must be seconds or null, got True"),
        ({"retries": "many"}, "header 'retries' must be a whole number, got 'many'"),
        ({"retries": 1.5}, "header 'retries' must be a whole number, got 1.5"),
        ({"retries": float("inf")}, "header 'retries' must be a whole number, got inf"),
        ({"group_index": []}, "header 'group_index' must be a whole number, got list of 0"),
        ({"eta": 5}, "header 'eta' must be text or null, got 5"),
        ({"compression": 5}, "header 'compression' must be text or null, got 5"),
        ({"root_id": {}}, "header 'root_id' must be text or null, got dict"),
    ],
)
def test_what_is_wrong_with_a_header_is_said(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        task.parse_headers(wire_headers(**changes))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "field", "reading"),
    [
        ({"retries": "3"}, "retries", 3),
        ({"retries": None}, "retries", 0),
        ({"retries": 2.0}, "retries", 2),
        ({"stamps": [1]}, "stamps", {}),
        ({"stamps": None}, "stamps", {}),
        ({"stamped_headers": "mid"}, "stamped_headers", ["mid"]),
        ({"stamped_headers": 5}, "stamped_headers", None),
        ({"timelimit": None}, "timelimit", (None, None)),
        ({"timelimit": ["30", 20]}, "timelimit", (30.0, 20)),
        ({"ignore_result": 1}, "ignore_result", True),
        ({"ignore_result": None}, "ignore_result", None),
        ({"lang": None}, "lang", "py"),
        ({"eta": datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC)}, "eta", "2030-01-02T00:00:00+00:00"),
        ({"replaced_task_nesting": None}, "replaced_task_nesting", 0),
    ],
)
def test_what_celery_accepts_is_accepted(changes: dict[str, object], field: str, reading: object) -> None:
    assert getattr(task.parse_headers(wire_headers(**changes)), field) == reading


def test_task_and_id_are_enough() -> None:
    headers = task.parse_headers({"task": "t", "id": "i"})
    assert (headers.retries, headers.timelimit, headers.user) == (0, (None, None), {})


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (body_bytes([]), "body must have 3 elements [args, kwargs, embed], got 0"),
        (body_bytes([[]]), "body must have 3 elements [args, kwargs, embed], got 1"),
        (body_bytes([[], {}]), "body must have 3 elements [args, kwargs, embed], got 2"),
        (body_bytes([[], {}, EMBED, 1]), "body must have 3 elements [args, kwargs, embed], got 4"),
        (body_bytes({"kwargs": {}}), "body is an object without 'args' at $.args"),
        (body_bytes(5), "body must be [args, kwargs, embed], got int"),
        (body_bytes("text"), "body must be [args, kwargs, embed], got str"),
        (b"null", "body must be [args, kwargs, embed], got NoneType"),
        (body_bytes([[], [], EMBED]), "kwargs must be an object, got list at $[1]"),
        (body_bytes([5, {}, EMBED]), "args must be an array, got int at $[0]"),
        (body_bytes([[], {}, 5]), "embed must be an object or null, got int at $[2]"),
        (body_bytes([[], {}, {"chain": {}}]), "expected an array of signatures or null, got dict at $[2].chain"),
        (body_bytes([[], {}, {"callbacks": [5]}]), "a signature must be an object, got int at $[2].callbacks[0]"),
        (body_bytes([[], {}, {"chord": []}]), "chord must be a signature or null, got list at $[2].chord"),
        (b"", "expected JSON"),
        (b"[[], {}", "expected JSON"),
        (b"\xff\xfe", "expected JSON text in UTF-8"),
        (b"bm90IGJhc2U2NA", "expected JSON"),
    ],
)
def test_what_is_wrong_with_a_body_is_said(data: bytes, problem: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        task.decode_body(data, *JSON, None, accept=JSON_ONLY)
    assert problem in str(caught.value)


def test_keys_of_kwargs_are_text() -> None:
    data, content_type, encoding, _none = task.encode_body(TaskBody((), {5: 1}, Embed()), "pickle")  # type: ignore[dict-item]
    with pytest.raises(MalformedMessage) as caught:
        task.decode_body(data, content_type, encoding, None, accept=ALL)
    assert "keys of kwargs must be text, got int" in str(caught.value)


@pytest.mark.parametrize("embed", [None, {}, {"callbacks": None}, {**EMBED, "more": 1}])
def test_an_embed_of_less_is_accepted(embed: object) -> None:
    body = task.decode_body(body_bytes([[1], {}, embed]), *JSON, None, accept=JSON_ONLY)
    assert body == TaskBody([1], {}, Embed())


def test_nan_in_a_body_is_accepted() -> None:
    body = task.decode_body(b"[[NaN], {}, null]", *JSON, None, accept=JSON_ONLY)
    assert body.args[0] != body.args[0]


def test_extra_types_in_a_body() -> None:
    day = datetime.date(2030, 1, 2)
    data, *rest = task.encode_body(TaskBody((day,), {"b": b"\xff"}, Embed()), "json")
    assert task.decode_body(data, *rest, accept=JSON_ONLY) == TaskBody([day], {"b": b"\xff"}, Embed())


@pytest.mark.parametrize(
    ("data", "compression", "problem"),
    [
        ("text", "application/x-gzip", "a compressed body must be bytes, got text"),
        (b"xx", "application/x-gzip", "body is not valid application/x-gzip"),
        (b"xx", "application/x-nothing", "unknown compression"),
        (b"xx", ["gzip"], "header 'compression' must be text"),
    ],
)
def test_bad_compression(data: Any, compression: Any, problem: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        task.decode_body(data, *JSON, compression, accept=JSON_ONLY)
    assert problem in str(caught.value)


def test_a_compressed_body_may_be_larger_than_a_plain_one() -> None:
    data, *rest = task.encode_body(TaskBody(("x" * 5000,), {}, Embed()), "json", "gzip")
    limits = Limits(max_bytes=200, max_decompressed_bytes=10_000)
    assert task.decode_body(data, *rest, accept=JSON_ONLY, limits=limits).args == ["x" * 5000]
    for small in (Limits(max_bytes=20), Limits(max_decompressed_bytes=1000)):
        with pytest.raises(MalformedMessage):
            task.decode_body(data, *rest, accept=JSON_ONLY, limits=small)


def test_depth_and_size_are_bounded_on_the_fast_path() -> None:
    deep = body_bytes([[]], {}, None).replace(b"[]", b"[" * 200 + b"]" * 200)
    for data, limits in ((deep, Limits()), (body_bytes(["x" * 100], {}, None), Limits(max_bytes=50))):
        with pytest.raises(MalformedMessage):
            task.decode_body(data, *JSON, None, accept=JSON_ONLY, limits=limits)


def v1(**changes: object) -> dict[str, Any]:
    return {"task": "t", "id": "i", "args": [1], "kwargs": {"a": 2}, "retries": 0, "timelimit": [None, None], **changes}


def test_protocol_1() -> None:
    link = {"task": "next"}
    document = v1(taskset="g", callbacks=[link], errbacks=None, chord=None, utc=True, expires="2030-01-01T00:00:00")
    assert not task.is_protocol2({"my": 1})
    headers, body = task.decode_protocol1(body_bytes(document), *JSON, {"my": 1}, {}, accept=JSON_ONLY)
    assert (headers.id, headers.root_id, headers.group, headers.argsrepr) == ("i", "i", "g", "(1,)")
    assert headers.user == {"my": 1}
    assert body == TaskBody([1], {"a": 2}, Embed(callbacks=[link]))


def test_protocol_1_in_local_time_says_so() -> None:
    headers, _body = task.decode_protocol1(body_bytes(v1(utc=False)), *JSON, {}, {}, accept=JSON_ONLY)
    assert headers.user == {UTC_HEADER: False}


def test_protocol_1_without_id_takes_the_correlation_id() -> None:
    document = v1()
    del document["id"]
    properties = {"correlation_id": "c"}
    assert task.decode_protocol1(body_bytes(document), *JSON, {}, properties, accept=JSON_ONLY)[0].id == "c"
    with pytest.raises(MalformedMessage) as caught:
        task.decode_protocol1(body_bytes(document), *JSON, {}, {}, accept=JSON_ONLY)
    assert "'id' is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([[], {}, None], "neither a header nor the body names a task"),
        ({"id": "i", "args": []}, "neither a header nor the body names a task"),
        (v1(timelimit=[1]), "timelimit must be [hard, soft]"),
        (v1(kwargs=[1]), "kwargs must be an object, got list at $.kwargs"),
        (v1(callbacks=5), "expected an array of signatures or null"),
        (v1(task=""), "header 'task' must be text"),
    ],
)
def test_bad_protocol_1(document: object, problem: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        task.decode_protocol1(body_bytes(document), *JSON, {}, {}, accept=JSON_ONLY)
    assert problem in str(caught.value)


def test_the_hybrid_form() -> None:
    document = v1(task="from-body", eta="2030-01-01T00:00:00", retries=4)
    headers, body = task.decode_message(
        body_bytes(document), *JSON, {"task": "from-header", "retries": 5}, {}, accept=JSON_ONLY
    )
    assert (headers.task, headers.id, headers.eta, headers.retries) == ("from-header", "i", "2030-01-01T00:00:00", 5)
    assert body.args == [1]
    assert task.decode_body(body_bytes(document), *JSON, None, accept=JSON_ONLY) == body


header_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())
any_headers = st.dictionaries(
    st.sampled_from([*TaskHeaders.__struct_fields__, "x"]) | st.text(max_size=5), header_values, max_size=8
)


@given(
    data=st.binary(max_size=60) | st.sampled_from([b"[[],{},null]", body_bytes(v1())]),
    headers=any_headers | st.just({"task": "t", "id": "i"}),
    content_type=st.sampled_from([*sorted(ALL - {"application/x-python-serialize"}), None, 5]),
    encoding=st.none() | st.text(max_size=5),
)
def test_arbitrary_messages_raise_nothing_else(data: bytes, headers: Any, content_type: Any, encoding: Any) -> None:
    with contextlib.suppress(MalformedMessage, UntrustedContent):
        task.decode_message(data, content_type, encoding, headers, {}, accept=ALL)
    with contextlib.suppress(MalformedMessage):
        task.parse_headers(headers)
    with contextlib.suppress(MalformedMessage, UntrustedContent):
        task.decode_body(data, content_type, encoding, headers.get("compression"), accept=ALL)


@pytest.mark.parametrize("raw", [None, [], "text", 5])
def test_headers_that_are_no_object(raw: Any) -> None:
    with pytest.raises(MalformedMessage):
        task.parse_headers(raw)
