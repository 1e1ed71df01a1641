"""Serializers: round trips, limits, and that bad bytes raise two kinds of error and no other."""

from __future__ import annotations

import contextlib
import datetime
import json
import pickle
import uuid
from decimal import Decimal
from typing import Any

import kombu.utils.json
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.errors import ConfigError, MalformedMessage, UntrustedContent, UsageError, WorkerLostError
from opsq.wire import content
from opsq.wire.content import DEFAULT_REGISTRY, JSON_ONLY, Limits, Serializer, accept_set, dumps, json_with, loads
from opsq.wire.limits import check_shape

SERIALIZERS = ["json", "pickle", "yaml", "msgpack"]
ALL = accept_set(SERIALIZERS)
MIMES = sorted(ALL)

whole = st.integers(-(2**63), 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
# YAML cannot hold every character: lone surrogates and the non-characters of the first plane.
text = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=20)
atoms = st.none() | st.booleans() | whole | numbers | text
values = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=20
)
extras = (
    st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.binary(max_size=20)
)


class WithJson:
    """Knows its own JSON form."""

    def __json__(self) -> dict[str, Any]:
        return {"me": (1, 2)}


def round_trip(value: object, name: str, **options: Any) -> object:
    return loads(*dumps(value, name), accept=ALL, **options)


@pytest.mark.parametrize("name", SERIALIZERS)
@given(value=values)
def test_round_trip(name: str, value: object) -> None:
    assert round_trip(value, name) == value


@given(value=st.lists(extras, max_size=4) | st.dictionaries(text, extras, max_size=4))
def test_json_extra_types_round_trip_and_kombu_agrees(value: object) -> None:
    data, _type, _encoding = dumps(value, "json")
    assert data.decode() == kombu.utils.json.dumps(value)
    assert kombu.utils.json.loads(data) == value
    assert loads(data, "application/json", "utf-8", accept=JSON_ONLY) == value


@given(value=values)
def test_json_text_is_kombus(value: object) -> None:
    assert dumps(value, "json")[0].decode() == kombu.utils.json.dumps(value)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), "\ud800", 2**200, (1, (2,)), {1: 2, None: 3, False: 4}])
def test_json_writes_what_python_writes(value: object) -> None:
    text = kombu.utils.json.dumps(value)
    assert dumps(value, "json")[0].decode() == text
    assert loads(text, "application/json", "utf-8", accept=JSON_ONLY) == json.loads(text)


def test_json_nan_is_accepted() -> None:
    found: Any = loads(b'{"a": NaN, "b": [Infinity]}', "application/json", "utf-8", accept=JSON_ONLY)
    assert found["a"] != found["a"]
    assert found["b"] == [float("inf")]


def test_json_own_form() -> None:
    assert dumps([WithJson()], "json")[0] == b'[{"me": [1, 2]}]'


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, {1, 2}]}, "builtins.set at $.a[1]"),
        ([object()], "builtins.object at $[0]"),
        ({"k": {(1, 2): 3}}, "key of type tuple at $.k"),
        ([datetime.timedelta(1)], "datetime.timedelta at $[0]"),
    ],
)
def test_what_json_cannot_hold_is_named(value: object, place: str) -> None:
    with pytest.raises(UsageError) as caught:
        dumps(value, "json")
    assert place in str(caught.value)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for name in ("json", "msgpack"):
        with pytest.raises(UsageError):
            dumps(loop, name)


@pytest.mark.parametrize(("name", "value"), [("yaml", object()), ("msgpack", {1, 2}), ("pickle", lambda: None)])
def test_other_serializers_refuse_too(name: str, value: object) -> None:
    with pytest.raises(UsageError):
        dumps(value, name)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"__type__": "zzz", "__value__": 1}', "unknown __type__ 'zzz'"),
        ('{"__type__": ["a"], "__value__": 1}', "unknown __type__"),
        ('[{"__type__": "uuid", "__value__": {"hex": "0"}}]', "bad uuid"),
        ('{"a": {"__type__": "uuid", "__value__": "0"}}', "bad uuid"),
        ('{"__type__": "uuid", "__value__": {}}', "bad uuid"),
        ('{"__type__": "uuid", "__value__": {"hex": 5}}', "bad uuid"),
        ('{"__type__": "datetime", "__value__": "x"}', "bad datetime"),
        ('{"__type__": "datetime", "__value__": 5}', "bad datetime"),
        ('{"__type__": "decimal", "__value__": "x"}', "bad decimal"),
        ('{"__type__": "base64", "__value__": "é"}', "bad base64"),
        ('{"__type__": "base64", "__value__": "a"}', "bad base64"),
        ('{"__type__": "bytes", "__value__": "\\ud800"}', "bad bytes"),
    ],
)
def test_bad_extra_types(text: str, problem: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        loads(text, "application/json", "utf-8", accept=JSON_ONLY)
    assert problem in str(caught.value)


def test_only_exactly_two_keys_make_an_extra_type() -> None:
    plain = {"__type__": "datetime", "__value__": "x", "more": 1}
    assert round_trip(plain, "json") == plain
    assert round_trip({"__type__": "date"}, "json") == {"__type__": "date"}


def test_a_registered_type_is_read() -> None:
    registry = DEFAULT_REGISTRY.plus(json_with({"point": lambda value: tuple(value)}))
    text = b'{"__type__": "point", "__value__": [1, 2]}'
    assert loads(text, "application/json", "utf-8", accept=JSON_ONLY, registry=registry) == (1, 2)
    with pytest.raises(MalformedMessage):
        loads(text, "application/json", "utf-8", accept=JSON_ONLY)


@given(
    data=st.binary(max_size=200),
    mime=st.sampled_from(MIMES[:]),
    encoding=st.sampled_from(["utf-8", "binary", "utf-16"]),
)
def test_arbitrary_bytes_raise_nothing_else(data: bytes, mime: str, encoding: str) -> None:
    if mime == "application/x-python-serialize":
        # Unpickling arbitrary bytes may do anything; accepted pickles come from trusted peers.
        mime = "application/json"
    with contextlib.suppress(MalformedMessage, UntrustedContent):
        loads(data, mime, encoding, accept=ALL)


@given(text=st.text(alphabet='[]{}",:&*<!|>-?%@`\n 0123456789.eE+abtrue_\\u', max_size=60), mime=st.sampled_from(MIMES))
def test_arbitrary_text_raises_nothing_else(text: str, mime: str) -> None:
    if mime == "application/x-python-serialize":
        return
    with contextlib.suppress(MalformedMessage):
        loads(text, mime, "utf-8", accept=ALL)


@given(kind=st.none() | st.text(max_size=10) | st.integers() | st.lists(st.integers(), max_size=1))
def test_content_types_are_checked_first(kind: Any) -> None:
    with pytest.raises(UntrustedContent):
        loads(b"\xff", kind, "utf-8", accept=JSON_ONLY)


def test_pickle_is_not_touched_unless_accepted() -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("unpickled",))

    with pytest.raises(UntrustedContent) as caught:
        loads(pickle.dumps(Trap()), "application/x-python-serialize", "binary", accept=JSON_ONLY)
    assert "accept_content" in str(caught.value)


@pytest.mark.parametrize("module", ["celery.exceptions", "billiard.exceptions"])
def test_celerys_own_errors_in_a_pickle_need_no_celery(module: str) -> None:
    pickled = f"c{module}\nWorkerLostError\n(VIt died.\ntR.".encode()
    error = loads(pickled, "application/x-python-serialize", "binary", accept=accept_set(["pickle"]))
    assert (type(error), getattr(error, "args", None)) == (WorkerLostError, ("It died.",))


def test_a_broken_pickle_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        loads(b"\x80\x04\x95", "application/x-python-serialize", "binary", accept=ALL)


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (b"[" * 101 + b"]" * 101, "application/json"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "application/json"),
        (b"[" * 200_000, "application/json"),
        (b"[" * 200_000 + b"NaN" + b"]" * 200_000, "application/json"),
        (b"\x91" * 101 + b"\x01", "application/x-msgpack"),
        (b"\x91" * 200_000 + b"\x01", "application/x-msgpack"),
        (b"[" * 101 + b"]" * 101, "application/x-yaml"),
        (b"[" * 2_000 + b"]" * 2_000, "application/x-yaml"),
    ],
)
def test_depth_is_bounded(data: bytes, mime: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        loads(data, mime, "utf-8", accept=ALL)
    assert "nested" in str(caught.value)


def test_depth_up_to_the_limit_is_taken() -> None:
    assert loads(b"[" * 100 + b"]" * 100, "application/json", "utf-8", accept=ALL)
    # Many brackets side by side are no depth.
    assert loads(b"[" + b"[]," * 500 + b"[]]", "application/json", "utf-8", accept=ALL)


def test_tagged_types_do_not_recurse_without_end_under_generous_limits() -> None:
    data = b"[" * 5_000 + b'"__type__"' + b"]" * 5_000
    with pytest.raises(MalformedMessage):
        loads(data, "application/json", "utf-8", accept=ALL, limits=Limits(max_depth=100_000))


@pytest.mark.parametrize("name", SERIALIZERS)
def test_size_is_checked_before_decoding(name: str) -> None:
    data, mime, encoding = dumps(["x" * 100], name)
    with pytest.raises(MalformedMessage) as caught:
        loads(data, mime, encoding, accept=ALL, limits=Limits(max_bytes=50))
    assert "message_max_bytes" in str(caught.value)


ALIAS_BOMB = "\n".join(
    ["- &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"- &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
).encode()
WIDE_BOMB = b"- &a [" + b"1, " * 5000 + b"1]\n- [" + b"*a, " * 5000 + b"*a]"


@pytest.mark.parametrize(
    "data", [ALIAS_BOMB, WIDE_BOMB, b"&a [*a]", b"a: &a {x: 1}\nb: {<<: *a}", b"!!python/object/apply:os.system [ls]"]
)
def test_yaml_bombs_and_classes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        loads(data, "application/x-yaml", "utf-8", accept=ALL)


def test_yaml_aliases_of_a_value_used_twice_are_read() -> None:
    shared = ["a", "b"]
    data, mime, encoding = dumps([shared, shared], "yaml")
    assert b"*id001" in data
    assert loads(data, mime, encoding, accept=ALL) == [shared, shared]


def test_shape_counts_before_it_lists() -> None:
    row: list[Any] = [[]] * 100_000
    with pytest.raises(MalformedMessage):
        check_shape([row] * 100_000, Limits(), max_nodes=1_000_000)


def test_other_text_encodings() -> None:
    assert loads('["é"]'.encode("utf-16"), "application/json", "utf-16", accept=ALL) == ["é"]
    assert loads(b'["\xe9"]', "application/json", "latin-1", accept=ALL) == ["é"]
    for encoding in ("idna", "punycode", "zlib", "nonsense"):
        with pytest.raises(MalformedMessage):
            loads(b"[]", "application/json", encoding, accept=ALL)


def test_every_form_of_bytes_is_taken() -> None:
    for form in (b"[1]", bytearray(b"[1]"), memoryview(b"[1]"), "[1]"):
        assert loads(form, "application/json", "utf-8", accept=ALL) == [1]


def test_accept_set_takes_names_and_mime_types() -> None:
    assert accept_set(["json", "application/x-yaml"]) == {"application/json", "application/x-yaml"}
    with pytest.raises(ConfigError) as caught:
        accept_set(["jsn"])
    assert "json" in str(caught.value)


def test_a_missing_library_is_one_sentence() -> None:
    gone = Serializer(
        "yaml", "application/x-yaml", "utf-8", content.YAML.write, content.YAML.read, missing="pip install x"
    )
    with pytest.raises(ConfigError) as caught:
        accept_set(["yaml"], DEFAULT_REGISTRY.plus(gone))
    assert str(caught.value) == "pip install x"


def test_msgpack_keeps_bytes_and_refuses_the_rest() -> None:
    assert round_trip({"a": b"\xff", "b": [1.5, None]}, "msgpack") == {"a": b"\xff", "b": [1.5, None]}
    for value in (uuid.UUID(int=1), Decimal(1)):
        with pytest.raises(UsageError):
            dumps(value, "msgpack")
