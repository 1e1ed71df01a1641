"""The text of a message in Redis, and names of keys: without a server."""

from __future__ import annotations

import binascii
import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kombu.utils.json import dumps, loads

from opsq.broker.message import OutMessage
from opsq.broker.redis.envelope import again, pack_message, redelivered, unpack, unpack_batch
from opsq.broker.redis.keys import Keys
from opsq.broker.redis.wire import pack
from opsq.errors import UsageError


def out(body: bytes = b"[[], {}, {}]", **options: Any) -> OutMessage:
    fields: dict[str, Any] = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {"id": "1", "task": "add"},
        "properties": {"correlation_id": "1", "delivery_mode": 2},
        "routing_key": "celery",
    }
    return OutMessage(body=body, **{**fields, **options})


def stock(**options: Any) -> dict[str, Any]:
    """An envelope as kombu's own transport writes it."""
    return {
        "body": "W1tdLCB7fSwge31d",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"id": "1", "task": "add", "stamps": [], "big": 2**70},
        "properties": {
            "correlation_id": "1",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "priority": 3,
            "body_encoding": "base64",
            "delivery_tag": "d3adbeef",
        },
        **options,
    }


def test_an_envelope_has_what_kombu_writes() -> None:
    written = loads(pack_message(out(b"\x00\xff")).decode())
    assert written["body"] == "AP8="
    assert (written["content-type"], written["content-encoding"]) == ("application/json", "utf-8")
    properties = written["properties"]
    assert properties["delivery_info"] == {"exchange": "", "routing_key": "celery"}
    assert (properties["priority"], properties["body_encoding"], properties["delivery_mode"]) == (0, "base64", 2)
    assert len(properties["delivery_tag"]) == 36


def test_every_message_has_a_tag_of_its_own() -> None:
    tags = {loads(pack_message(out()).decode())["properties"]["delivery_tag"] for _ in range(1_000)}
    assert len(tags) == 1_000


def test_a_stock_envelope_is_read() -> None:
    text = dumps(stock()).encode()
    (one,) = unpack_batch(b"[" + text + b"]", [len(text)])
    assert (one.body, one.tag, one.priority, one.routing_key) == (b"[[], {}, {}]", "d3adbeef", 3, "celery")
    assert one.headers == {"id": "1", "task": "add", "stamps": [], "big": 2**70}
    assert one.properties == {"correlation_id": "1", "delivery_mode": 2, "priority": 3}
    assert (one.redelivered, one.deliveries) == (False, 1)


def test_a_plain_text_body_is_read() -> None:
    envelope = stock(body="[1]")
    envelope["properties"]["body_encoding"] = None
    assert unpack(dumps(envelope).encode()).body == b"[1]"


def _as_python_reads(body: str) -> bytes:
    try:
        return binascii.a2b_base64(body)
    except (binascii.Error, ValueError):
        return body.encode(errors="surrogatepass")


@given(body=st.one_of(st.text(), st.text("AZaz09+/=\n-_"), st.binary().map(lambda data: b64encode(data).decode())))
@example("W10=\n").via("a line end, as some encoders leave it")
@example("W10").via("no padding")
@example("\ud800").via("no UTF-8")
def test_any_base64_is_read_as_python_reads_it(body: str) -> None:
    """The quick way is strict; what it refuses is read the lenient way, or passed on as it is."""
    text = json.dumps(stock(body=body)).encode()
    (one,) = unpack_batch(b"[" + text + b"]", [len(text)])
    assert one.body == unpack(text).body == _as_python_reads(body)


def test_types_that_only_kombu_knows_travel_both_ways() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    text = pack_message(out(b"x", headers={"at": at, "name": "\ud800"}))
    assert loads(text.decode())["headers"]["at"] == at
    one = unpack(text)
    assert (one.headers["at"], one.body) == (at, b"x")


def test_a_header_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(UsageError, match="'celery': headers and properties must be JSON"):
        pack_message(out(headers={"thing": object()}))


@pytest.mark.parametrize(
    "text",
    [
        b"not json",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b'{"body": 1, "properties": {"delivery_tag": "t", "delivery_info": {}}}',
        b'{"body": "x"}',
        b'{"body": "x", "properties": []}',
        b"\xff\xfe",
        b'{"headers": [], "properties": {"delivery_tag": "t", "delivery_info": {}}}',
    ],
)
def test_what_is_no_envelope_is_passed_on_as_it_is(text: bytes) -> None:
    good = dumps(stock()).encode()
    batch = unpack_batch(b"[" + good + b"," + text + b"," + good + b"]", [len(good), len(text), len(good)])
    assert [each.tag for each in batch][::2] == ["d3adbeef", "d3adbeef"]
    odd = batch[1]
    assert odd.headers == {}
    assert odd.body == (b"" if text.startswith(b'{"body": 1') else text)


def test_two_messages_in_one_entry_do_not_shift_the_others() -> None:
    good = dumps(stock()).encode()
    double = good + b"," + good
    batch = unpack_batch(b"[" + double + b"," + good + b"]", [len(double), len(good)])
    assert len(batch) == 2
    assert (batch[0].body, batch[1].tag) == (double, "d3adbeef")


def test_nan_in_a_header_is_read() -> None:
    text = json.dumps(stock(headers={"id": "1", "x": float("nan")})).encode()
    assert unpack(text).headers["id"] == "1"


def test_what_is_put_back_is_marked_and_otherwise_unchanged() -> None:
    entry = json.dumps([stock(), "", "celery"]).encode()
    found = redelivered(entry)
    assert found is not None
    message, exchange, routing_key = found
    assert (exchange, routing_key) == ("", "celery")
    one = unpack(again(message))
    assert (one.redelivered, one.deliveries) == (True, 2)
    assert one.headers == {"id": "1", "task": "add", "stamps": [], "big": 2**70, "redelivered": True}
    third = redelivered(json.dumps([message, "", "celery"]).encode())
    assert third is not None
    assert unpack(again(third[0])).deliveries == 3


@pytest.mark.parametrize("entry", [b"", b"{}", b"[1, 2, 3]", b'[{}, "", "q"]', b'["text", "", "q"]'])
def test_an_entry_that_cannot_be_read_is_none(entry: bytes) -> None:
    assert redelivered(entry) is None


def test_lists_of_priorities_have_kombus_names() -> None:
    keys = Keys(prefix="app.")
    assert [keys.queue("q", priority) for priority in (0, 2, 3, 5, 8, 9, 77, -1, "x", None)] == [
        *("app.q", "app.q", "app.q\x06\x163", "app.q\x06\x163", "app.q\x06\x166"),
        *("app.q\x06\x169", "app.q\x06\x169", "app.q", "app.q", "app.q"),
    ]
    assert keys.lists(["a", "b"])[:3] == ["app.a", "app.b", "app.a\x06\x163"]


def test_channels_have_kombus_names() -> None:
    keys = Keys(fanout="/3.")
    assert keys.channel("celeryev", "task.multi") == "/3.celeryev/task.multi"
    assert keys.channel("celery.pidbox", "") == "/3.celery.pidbox"
    assert keys.pattern("celeryev", "#") == "/3.celeryev/*"
    assert Keys(fanout_patterns=False).channel("celeryev", "task.multi") == "/0.celeryev"


def test_a_command_is_written_as_the_protocol_says() -> None:
    assert pack("LPUSH", b"\xff", 12, "ü") == b"*4\r\n$5\r\nLPUSH\r\n$1\r\n\xff\r\n$2\r\n12\r\n$2\r\n\xc3\xbc\r\n"
