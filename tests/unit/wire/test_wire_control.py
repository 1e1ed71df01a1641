"""Remote-control envelopes: round trips, Celery's shapes, arbitrary input."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.errors import MalformedMessage, UntrustedContent
from opsq.wire.control import (
    Reply,
    ReplyTo,
    Request,
    encode_reply,
    encode_request,
    parse_reply,
    parse_request,
)

JSON = ("application/json", "utf-8")
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | text | st.lists(text, max_size=2)
requests = st.builds(
    Request,
    method=text.filter(bool),
    arguments=st.dictionaries(text, values, max_size=3),
    destination=st.none() | st.lists(text, max_size=2).map(tuple),
    pattern=st.none() | text,
    matcher=st.none() | text,
    ticket=st.none() | text,
    reply_to=st.none() | st.builds(ReplyTo, text, text),
    clock=st.none() | st.integers(0, 2**40),
    expires=st.floats(0, 1e10),
)
replies = st.builds(
    Reply, hostname=text, value=values, ticket=st.none() | text, clock=st.none() | st.integers(0, 2**40)
)


@given(request=requests)
def test_requests_round_trip(request: Request) -> None:
    data, content_type, encoding, headers = encode_request(request)
    assert parse_request(data, content_type, encoding, headers) == request


@given(reply=replies)
def test_replies_round_trip(reply: Reply) -> None:
    data, content_type, encoding, headers = encode_reply(reply)
    assert parse_reply(data, content_type, encoding, headers) == reply


def test_the_shapes_are_celerys() -> None:
    data, _type, _encoding, headers = encode_request(Request(method="ping", clock=3))
    assert json.loads(data) == {
        "method": "ping",
        "arguments": {},
        "destination": None,
        "pattern": None,
        "matcher": None,
    }
    assert headers == {"clock": 3, "expires": 0}
    data, _type, _encoding, headers = encode_reply(Reply(hostname="w1@host", value={"ok": "pong"}, ticket="t", clock=4))
    assert json.loads(data) == {"w1@host": {"ok": "pong"}}
    assert headers == {"ticket": "t", "clock": 4}


def test_errors_are_told_apart() -> None:
    assert Reply(hostname="h", value={"error": "KeyError('x')"}).error == "KeyError('x')"
    assert Reply(hostname="h", value={"ok": "pong"}).error is None


def test_a_single_destination_as_text() -> None:
    data = json.dumps({"method": "ping", "destination": "w1@host"}).encode()
    assert parse_request(data, *JSON, {}).destination == ("w1@host",)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ([], "a request must be an object, got list"),
        ({}, "a request must name its method at $.method"),
        ({"method": 5}, "method must be text or null, got int at $.method"),
        ({"method": "m", "arguments": []}, "arguments must be an object, got list at $.arguments"),
        ({"method": "m", "destination": [5]}, "destination must be an array of node names or null at $.destination"),
        ({"method": "m", "destination": 5}, "destination must be an array of node names or null at $.destination"),
        ({"method": "m", "reply_to": "x"}, "reply_to must be an object with exchange and routing_key at $.reply_to"),
        ({"method": "m", "pattern": 5}, "pattern must be text or null, got int at $.pattern"),
    ],
)
def test_bad_requests(body: object, problem: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_request(json.dumps(body).encode(), *JSON, {})
    assert str(caught.value) == problem


@pytest.mark.parametrize("body", [[], {}, {"a": 1, "b": 2}, "x"])
def test_bad_replies(body: object) -> None:
    with pytest.raises(MalformedMessage):
        parse_reply(json.dumps(body).encode(), *JSON, {})


anything = st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2))
bodies = st.dictionaries(
    st.sampled_from(["method", "arguments", "destination", "pattern", "matcher", "ticket", "reply_to"]), anything
)


@given(
    data=bodies.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=30),
    headers=st.dictionaries(st.sampled_from(["clock", "expires", "ticket"]), anything | st.integers() | st.floats()),
)
def test_arbitrary_messages_raise_nothing_else(data: bytes, headers: dict[str, Any]) -> None:
    for parse in (parse_request, parse_reply):
        with contextlib.suppress(MalformedMessage):
            parse(data, *JSON, headers)
    with pytest.raises(UntrustedContent):
        parse_request(data, "application/x-python-serialize", "binary", headers)


def test_an_expiry_out_of_range_is_ignored() -> None:
    data, *rest, _headers = encode_request(Request(method="m"))
    assert parse_request(data, *rest, {"expires": 10**400}).expires is None
