"""What events show of arguments: whole, cut, redacted, or nothing; never a secret, never more than asked for."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from opsq.wire.payload import REDACTED, Rule, rule_for

WORDS = ("password", "token", "api_key")


def rule(mode: str = "full", most: int = 1000, parameters: tuple[str, ...] = ()) -> Rule:
    return rule_for(mode, most, WORDS, parameters)


def body(*args: object, **kwargs: object) -> bytes:
    return json.dumps([args, kwargs, {"callbacks": None}]).encode()


def test_usual_arguments_are_shown_whole() -> None:
    shown = rule().shown("(1, 'ü')", "{'to': 'x'}", body(1, "ü", to="x"))
    assert shown.complete is True
    assert json.loads(shown.payload or "") == {"args": [1, "ü"], "kwargs": {"to": "x"}}
    assert (shown.args, shown.kwargs) == ("(1, 'ü')", "{'to': 'x'}")


def test_secrets_are_taken_out_of_payload_and_reprs() -> None:
    hidden = body(1, {"deep": [{"API_KEY": "s3cret"}]}, user="ann", db_password="s3cret")
    shown = rule().shown("(1, {'deep': [{'API_KEY': 's3cret'}]})", "{'db_password': 's3cret'}", hidden)
    assert "s3cret" not in repr(shown)
    assert shown.complete is False
    assert json.loads(shown.payload or "")["kwargs"] == {"user": "ann", "db_password": REDACTED}
    assert "ann" in (shown.kwargs or "")


def test_positional_secrets_are_known_by_their_parameter() -> None:
    shown = rule(parameters=("user", "new_password")).shown("('ann', 's3cret')", "{}", body("ann", "s3cret"))
    assert "s3cret" not in repr(shown)
    assert json.loads(shown.payload or "")["args"] == ["ann", REDACTED]
    plain = rule(parameters=("user", "new_password")).shown("('ann',)", "{}", body("ann"))
    assert plain.complete is True, "there was nothing to hide this time"


def test_long_arguments_are_left_out_and_said_to_be() -> None:
    shown = rule(most=200).shown("(…)", "{}", body(1, "x" * 5000, mode="fast"))
    assert shown.complete is False
    assert len(shown.payload or "") <= 200
    told = json.loads(shown.payload or "")
    assert told["args"][0] == 1
    assert "left out" in told["args"][1]


def test_modes() -> None:
    assert rule("repr").shown("(1,)", "{}", body(1)).payload is None
    assert rule("repr").shown("(1,)", "{}", body(1)).args == "(1,)"
    assert "s3" not in repr(rule("repr").shown("()", "{'token': 's3'}", body(token="s3")))
    none = rule("none").shown("(1,)", "{}", body(1))
    assert (none.args, none.kwargs, none.payload) == (None, None, None)


def test_a_body_that_cannot_be_read_shows_reprs_without_secrets() -> None:
    for unread in (None, b"\x80\x02", b"[1, 2, 3]", b"[[], {}]", b'[["\xff"], {}, {}]'):
        shown = rule().shown("(1,)", "{'token': 's3'}", unread)
        assert (shown.args, shown.kwargs, shown.payload) == ("(1,)", REDACTED, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10) | st.sampled_from(WORDS), inner),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=4), st.dictionaries(st.text(max_size=10) | st.just("my_token"), JSON, max_size=4))
def test_a_complete_payload_is_the_arguments(args: list[object], kwargs: dict[str, object]) -> None:
    shown = rule(most=100_000).shown("?", "?", body(*args, **kwargs))
    assert shown.payload is not None
    told = json.loads(shown.payload)
    if shown.complete:
        assert told == {"args": args, "kwargs": kwargs}
    else:
        assert REDACTED in shown.payload


MANY = st.lists(JSON | st.text('aü€"', min_size=5), max_size=20)


@given(MANY, st.dictionaries(st.text('xü"', max_size=10) | st.just("my_token"), JSON), st.integers(23, 300))
def test_no_payload_is_longer_than_allowed(args: list[object], kwargs: dict[str, object], most: int) -> None:
    shown = rule(most=most).shown("?", "?", json.dumps([args, kwargs, {}], ensure_ascii=False).encode())
    assert len((shown.payload or "").encode()) <= most


@given(st.binary(max_size=60) | st.text().map(str.encode))
def test_nothing_raises(data: bytes) -> None:
    rule(parameters=("token",)).shown("()", "{}", data)
