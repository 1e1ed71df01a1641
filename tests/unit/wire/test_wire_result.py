"""Stored results: round trips, the compression prefix, older writers, result trees."""

from __future__ import annotations

import contextlib
import datetime
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.errors import ConfigError, MalformedMessage, UntrustedContent
from opsq.wire.content import accept_set, dumps
from opsq.wire.limits import Limits
from opsq.wire.result import (
    COMPRESSED_PREFIX,
    ResultMeta,
    ResultRef,
    decode_document,
    decode_result,
    encode_result,
    parse_ref,
    ref_to_wire,
)

text = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=8)
maybe = st.none() | text.filter(bool)
values = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
metas = st.builds(
    ResultMeta,
    task_id=text.filter(bool),
    status=text.filter(bool),
    result=values,
    traceback=maybe,
    date_done=maybe,
    group_id=maybe,
    parent_id=maybe,
    children=st.none() | st.lists(values, max_size=2),
)
refs: st.SearchStrategy[ResultRef] = st.recursive(
    st.builds(ResultRef, text),
    lambda inner: st.builds(ResultRef, text, st.none() | inner, st.none() | st.lists(inner, max_size=3).map(tuple)),
    max_leaves=8,
)


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
@given(meta=metas)
def test_round_trip(serializer: str, compression: str | None, meta: ResultMeta) -> None:
    assert decode_result(encode_result(meta, serializer, compression), serializer) == meta


def test_the_text_is_celerys() -> None:
    meta = ResultMeta(task_id="i", status="SUCCESS", result=4, children=[], date_done="2026-11-21T02:44:34+00:00")
    assert encode_result(meta) == (
        b'{"status": "SUCCESS", "result": 4, "traceback": null, "children": [], '
        b'"date_done": "2026-11-21T02:44:34+00:00", "task_id": "i"}'
    )


def test_extended_results_carry_their_stamps() -> None:
    meta = ResultMeta(
        task_id="i",
        status="SUCCESS",
        extended=True,
        name="t",
        args=[1],
        kwargs={},
        retries=0,
        stamped_headers=["mid"],
        stamps={"mid": ["a"]},
    )
    document = json.loads(encode_result(meta))
    assert document["mid"] == ["a"]
    assert list(document)[5:11] == ["name", "args", "kwargs", "worker", "retries", "queue"]
    assert decode_result(encode_result(meta)) == meta


def test_the_compression_prefix() -> None:
    data = encode_result(ResultMeta(task_id="i", status="SUCCESS"), compression="zlib")
    prefix = b"\0celery-compressed\0application/x-gzip\0"
    assert data.startswith(prefix)
    assert json.loads(zlib.decompress(data[len(prefix) :]))["task_id"] == "i"


def test_a_compressed_result_may_be_larger_than_a_plain_one() -> None:
    data = encode_result(ResultMeta(task_id="i", status="SUCCESS", result="x" * 5000), compression="gzip")
    limits = Limits(max_bytes=300, max_decompressed_bytes=6000)
    assert decode_result(data, limits=limits).result == "x" * 5000
    for small in (Limits(max_bytes=20), Limits(max_decompressed_bytes=1000)):
        with pytest.raises(MalformedMessage):
            decode_result(data, limits=small)


def test_older_writers() -> None:
    moment = datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.UTC)
    document = {"status": "SUCCESS", "result": 1, "task_id": "i", "date_done": moment}
    meta = decode_result(dumps(document, "pickle")[0], "pickle")
    assert (meta.date_done, meta.children, meta.extended) == ("2020-01-02T03:00:00+00:00", None, False)
    meta = decode_result('{"status": "FAILURE", "task_id": "i", "future": 5}')
    assert meta.other == {"future": 5}
    assert json.loads(encode_result(meta))["future"] == 5


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "expected JSON"),
        (b"[]", "a stored result must be an object, got list"),
        (b"{}", "expected text, got NoneType at $.task_id"),
        (b'{"task_id": "i"}', "expected text, got NoneType at $.status"),
        (b'{"task_id": "i", "status": "S", "traceback": 5}', "expected text, got int at $.traceback"),
        (b"\0celery-compressed\0", "compressed result does not name its compression"),
        (b"\0celery-compressed\0application/x-gzip\0x", "body is not valid application/x-gzip"),
        (b"\0celery-compressed\0what\0x", "unknown compression 'what'"),
        (b"\0celery-compressed\0\xff\0x", "unknown compression"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, problem: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode_result(data)
    assert problem in str(caught.value)


@given(data=st.binary(max_size=80) | st.binary(max_size=20).map(lambda tail: COMPRESSED_PREFIX + tail))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    for serializer in ("json", "yaml", "msgpack"):
        with contextlib.suppress(MalformedMessage):
            decode_result(data, serializer)


documents = st.dictionaries(
    st.sampled_from(
        ["task_id", "status", "result", "children", "date_done", "retries", "stamped_headers", "name", "x"]
    ),
    values,
)


@given(document=documents)
def test_arbitrary_documents_raise_nothing_else(document: dict[str, Any]) -> None:
    with contextlib.suppress(MalformedMessage):
        decode_result(json.dumps(document))


def test_serializers_are_checked() -> None:
    with pytest.raises(UntrustedContent):
        decode_result(b"", "pickle", accept=accept_set(["json"]))
    with pytest.raises(ConfigError):
        decode_result(b"", "nonsense")
    with pytest.raises(ConfigError):
        encode_result(ResultMeta(task_id="i", status="S"), compression="nonsense")


@given(ref=refs)
def test_result_trees_round_trip(ref: ResultRef) -> None:
    assert parse_ref(json.loads(json.dumps(ref_to_wire(ref)))) == ref


def test_result_trees_of_celery() -> None:
    assert ref_to_wire(ResultRef("a", ResultRef("p"))) == [["a", [["p", None], None]], None]
    assert parse_ref("bare") == ResultRef("bare")
    assert parse_ref([["g", None], ["a", [["b", None], None]]]) == ResultRef(
        "g", None, (ResultRef("a"), ResultRef("b"))
    )
    assert parse_ref(["bare", None]) == ResultRef("bare")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (5, "expected a result [[id, parent], children]"),
        ([], "expected a result [[id, parent], children]"),
        ([[5, None], None], "expected [id, parent] at $[0]"),
        ([["a", None], 5], "children must be an array or null, got int at $[1]"),
        ([["a", None], [5]], "expected a result [[id, parent], children] at $[1][0]"),
    ],
)
def test_bad_result_trees(value: object, problem: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_ref(value)
    assert str(caught.value) == problem


def test_result_trees_are_bounded() -> None:
    tree: Any = "leaf"
    for _level in range(150):
        tree = [["n", tree], None]
    with pytest.raises(MalformedMessage) as caught:
        parse_ref(tree)
    assert "deeper than 100" in str(caught.value)


def test_group_documents() -> None:
    document: Any = decode_document(b'{"result": [["g", null], []]}')
    assert parse_ref(document["result"]) == ResultRef("g", None, ())
