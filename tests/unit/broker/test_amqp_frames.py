"""AMQP bytes: the same as py-amqp's, and nothing a peer sends raises anything but MalformedMessage."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.basic_message import Message
from amqp.exceptions import PreconditionFailed, UnexpectedFrame
from amqp.serialization import decode_properties_basic, dumps, loads
from hypothesis import given, settings
from hypothesis import strategies as st

from opsq.broker.amqp import frames
from opsq.broker.amqp.buffered import BufferedTcp
from opsq.broker.amqp.faults import told
from opsq.broker.amqp.inbox import Assembler
from opsq.broker.amqp.table import decode_table, encode_table
from opsq.broker.faults import BrokerUnusable
from opsq.broker.message import OutMessage
from opsq.errors import BrokerUnavailable, MalformedMessage, UsageError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), TEXT)
VALUES = st.recursive(SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXT, each, max_size=3))
TABLES = st.dictionaries(TEXT, VALUES, max_size=8)


@settings(max_examples=200, deadline=None)
@given(TABLES)
def test_tables_are_written_and_read_as_py_amqp_does(values: dict[str, Any]) -> None:
    data = encode_table(values)
    assert data == dumps("F", [values])
    assert decode_table(data, 4, len(data)) == values == loads("F", data, 0)[0][0]


def test_rare_types_are_read_as_py_amqp_does() -> None:
    items = {
        "b": b"b\xff", "B": b"B\xff", "s": b"s\xff\xfe", "u": b"u\xff\xfe", "i": b"i\xff\xff\xff\xfe",
        "l": b"l" + b"\xff" * 8, "L": b"L" + b"\xff" * 8, "f": b"f" + struct.pack(">f", 1.5),
        "x": b"x\0\0\0\2\x80\x81", "not utf-8": b"S\0\0\0\2\x80\x81",
        "D": b"D\2" + struct.pack(">i", 1234), "T": b"T" + struct.pack(">Q", 1_700_000_000),
    }  # fmt: skip
    body = b"".join(bytes((len(key),)) + key.encode() + item for key, item in items.items())
    expected = loads("F", struct.pack(">I", len(body)) + body, 0)[0][0]
    assert decode_table(body, 0, len(body)) == expected
    assert expected["D"] == Decimal("12.34")


@settings(max_examples=300, deadline=None)
@given(TABLES, st.data())
def test_damaged_headers_are_malformed_and_nothing_else(values: dict[str, Any], data: st.DataObject) -> None:
    whole = bytearray(frames._CONTENT(60, 0, 0) + b"\x20\0" + encode_table(values))
    position = data.draw(st.integers(12, len(whole) - 1))
    whole[position] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(12, len(whole)))])
    try:
        frames.read_properties(cut)
    except MalformedMessage:
        return


def test_a_bomb_of_tables_is_malformed() -> None:
    data = b""
    for _ in range(3_000):
        data = b"\1aF" + struct.pack(">I", len(data)) + data
    with pytest.raises(MalformedMessage, match="deeper"):
        decode_table(data, 0, len(data))


@pytest.mark.parametrize(
    "headers", [{"set": {1, 2}}, {"big": 2**70}, {"k" * 300: 1}, {"nan": Decimal("NaN")}, {"deep": [object()]}]
)
def test_what_amqp_cannot_carry_is_named(headers: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"header .(set|big|kkk|nan|deep)"):
        encode_table(headers)


def out(**fields: Any) -> OutMessage:
    """A message with everything in it."""
    plain: dict[str, Any] = {
        "body": b"[[1], {}, {}]", "content_type": "application/json", "content_encoding": "utf-8",
        "headers": {"id": "1", "lang": "py"}, "exchange": "ex", "routing_key": "rk",
        "properties": {"delivery_mode": 2, "priority": 3, "correlation_id": "1", "reply_to": "r", "expiration": "500"},
    }  # fmt: skip
    return OutMessage(**{**plain, **fields})


def cut(data: bytes) -> list[tuple[int, int, bytes]]:
    """Cut bytes into frames, by the letter of the specification."""
    found = []
    while data:
        kind, channel, size = struct.unpack_from(">BHI", data)
        assert data[7 + size] == 0xCE
        found.append((kind, channel, data[7 : 7 + size]))
        data = data[8 + size :]
    return found


def test_a_publish_carries_the_same_properties_as_py_amqps() -> None:
    message = out(properties={**out().properties, "message_id": "m", "type": "t", "timestamp": 1_700_000_000})
    method, header, body = cut(frames.publish(7, message, 131_072, mandatory=True))
    assert (method[0], method[1], body[2]) == (1, 7, message.body)
    assert method[2] == b"\0\x3c\0\x28\0\0\x02ex\x02rk\x01"
    theirs = Message(
        message.body, content_type="application/json", content_encoding="utf-8",
        application_headers=message.headers, **message.properties,
    )  # fmt: skip
    assert header[2][12:] == theirs._serialize_properties()
    assert header[2][:12] == b"\0\x3c\0\0" + len(message.body).to_bytes(8, "big")


def test_a_task_does_not_expire_in_the_broker() -> None:
    task = out(headers={"task": "add", "id": "1"})
    _, header, _ = cut(frames.publish(1, task, 131_072, mandatory=False))
    assert "expiration" not in decode_properties_basic(header[2], 12)[0]


def test_a_message_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(UsageError, match="message for 'kkk"):
        frames.publish(1, out(routing_key="k" * 300), 131_072, mandatory=False)
    with pytest.raises(UsageError, match="message for 'rk'"):
        frames.publish(1, out(properties={"priority": 300}), 131_072, mandatory=False)


@given(st.integers(0, 5_000), st.sampled_from([64, 100, 4096]))
def test_bodies_of_any_size_come_back_whole(size: int, frame_max: int) -> None:
    body = bytes(number % 251 for number in range(size))
    whole: list[bytes] = []
    assembler = Assembler(lambda _method, _header, got: whole.append(got))
    assembler.begin(b"method")
    first, *content = cut(frames.publish(1, out(body=body), frame_max, mandatory=False))
    assert all(len(payload) <= frame_max - 8 for kind, _, payload in content if kind == frames.BODY)
    assert first[0] == frames.METHOD
    for kind, _, payload in content:
        assert assembler.add(kind, payload)
    assert whole == [body]
    assert not assembler.add(frames.BODY, b"nobody announced this")


def test_a_delivery_with_broken_headers_still_arrives() -> None:
    method = frames.DELIVER + b"\1c" + (5).to_bytes(8, "big") + b"\1" + b"\0" + b"\1q"
    header = b"\0\x3c\0\0" + bytes(8) + b"\x20\0" + (7).to_bytes(4, "big") + b"\1aZ\0\0\0\0"
    got = frames.read_delivery(method, header, b"body", {"c": "q"})
    assert (got.tag, got.queue, got.redelivered, got.routing_key, got.body) == (5, "q", True, "q", b"body")
    assert "unknown type" in got.headers["opsq_unreadable"]


# ---- reading


@contextmanager
def ends() -> Iterator[tuple[socket.socket, BufferedTcp]]:
    """A peer's socket, and a transport that reads from it."""
    here, there = socket.socketpair()
    transport = BufferedTcp("localhost:1")
    transport.sock = here
    try:
        yield there, transport
    finally:
        here.close()
        there.close()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=20), st.integers(1, 40))
def test_frames_are_cut_right_however_the_bytes_arrive(payloads: list[bytes], step: int) -> None:
    stream = b"".join(struct.pack(">BHI", 1, 5, len(each)) + each + b"\xce" for each in payloads)
    with ends() as (peer, transport):
        for start in range(0, len(stream), step):
            peer.sendall(stream[start : start + step])
            transport.receive_ready()
        assert not transport.receive_ready()
        assert [transport.read_frame() for _ in payloads] == [(1, 5, each) for each in payloads]


def test_garbage_and_a_closed_peer_are_errors() -> None:
    with ends() as (peer, transport):
        peer.sendall(struct.pack(">BHI", 1, 5, 1) + b"ab")
        with pytest.raises(UnexpectedFrame, match="0x62"):
            transport.receive_ready()
    with ends() as (peer, transport):
        peer.close()
        with pytest.raises(ConnectionResetError, match="closed the connection"):
            transport.receive()


# ---- words


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("delivery acknowledgement on channel 1 timed out", BrokerUnavailable, "consumer_timeout"),
        ("inequivalent arg 'durable' for queue 'q'", BrokerUnusable, "other arguments"),
    ],
)
def test_refusals_say_what_to_do(said: str, kind: type[Exception], words: str) -> None:
    connection = SimpleNamespace(address="broker amqp://here//")
    with pytest.raises(kind, match=words) as caught, told(connection):
        raise PreconditionFailed(said)
    assert "broker amqp://here//" in str(caught.value)
    assert said in str(caught.value)
