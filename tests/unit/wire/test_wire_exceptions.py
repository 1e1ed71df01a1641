"""Stored exceptions: Celery's names, nothing imported, nothing but exceptions built."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq import errors
from opsq.errors import MalformedMessage
from opsq.wire.exceptions import CREATED_MODULE, exception_from_wire, exception_to_wire
from opsq.wire.jsonext import dumps_json


class Picky(Exception):
    """Wants two arguments but keeps one."""

    def __init__(self, first: object, second: object) -> None:
        super().__init__(first)


class Outer:
    """Holds a nested exception class."""

    class Inner(Exception):
        """Nested."""


def test_a_plain_exception_comes_back() -> None:
    wire = exception_to_wire(ValueError("boom", 42))
    assert wire == {"exc_type": "ValueError", "exc_message": ["boom", 42], "exc_module": "builtins"}
    back = exception_from_wire(wire)
    assert type(back) is ValueError
    assert back.args == ("boom", 42)


@pytest.mark.parametrize(
    ("exc", "module", "name"),
    [
        (errors.SoftTimeLimitExceeded(5), "billiard.exceptions", "SoftTimeLimitExceeded"),
        (errors.TimeLimitExceeded(5), "billiard.exceptions", "TimeLimitExceeded"),
        (errors.WorkerLostError("gone"), "billiard.exceptions", "WorkerLostError"),
        (errors.Terminated(15), "billiard.exceptions", "Terminated"),
        (errors.TaskRevokedError("expired"), "celery.exceptions", "TaskRevokedError"),
        (errors.MaxRetriesExceededError("x"), "celery.exceptions", "MaxRetriesExceededError"),
        (errors.ChordError("x"), "celery.exceptions", "ChordError"),
        (errors.NotRegistered("t"), "celery.exceptions", "NotRegistered"),
        (errors.Reject("why", False), "celery.exceptions", "Reject"),
        (errors.Ignore("x"), "celery.exceptions", "Ignore"),
        (errors.Retry("m", None, 5), "celery.exceptions", "Retry"),
        (errors.ResultTimeout("x"), "celery.exceptions", "TimeoutError"),
    ],
)
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_our_errors_travel_under_celerys_names(exc: Exception, module: str, name: str, serializer: str) -> None:
    wire = exception_to_wire(exc, serializer)
    assert (wire["exc_module"], wire["exc_type"]) == (module, name)
    back = exception_from_wire(json.loads(dumps_json(wire)))
    assert type(back) is type(exc)
    assert back.args == exc.args


def test_celery_may_name_its_re_exports() -> None:
    wire = {"exc_type": "WorkerLostError", "exc_message": ["x"], "exc_module": "celery.exceptions"}
    assert type(exception_from_wire(wire)) is errors.WorkerLostError


def test_celerys_wrapper_of_what_cannot_be_pickled_is_opened() -> None:
    wrapper = {"exc_type": "UnpickleableExceptionWrapper", "exc_module": "celery.utils.serialization"}
    back = exception_from_wire({**wrapper, "exc_message": ["ghostland", "GhostError", ["booh"], "GhostError('booh')"]})
    assert (type(back).__name__, back.args) == ("GhostError", ("booh",))
    for strange in (["ghostland"], ["m", 7, [], ""], ["m", "", [], ""], ["m", "Name", "no list", ""]):
        assert isinstance(exception_from_wire({**wrapper, "exc_message": strange}), Exception)


def test_arguments_that_cannot_be_written_become_reprs() -> None:
    wire = exception_to_wire(ValueError("holds", object, datetime.date(2030, 1, 2)))
    assert wire["exc_message"] == ["holds", "<class 'object'>", datetime.date(2030, 1, 2)]
    loop: list[Any] = []
    loop.append(loop)
    assert exception_to_wire(ValueError(loop))["exc_message"] == ["[[...]]"]


def test_pickle_stores_the_object_when_it_can() -> None:
    exc = KeyError("k")
    assert exception_to_wire(exc, "pickle") is exc
    assert exception_from_wire(exc) is exc
    assert exception_to_wire(Picky(1, 2), "pickle")["exc_type"] == "Picky"


def test_unknown_classes_are_made() -> None:
    for wire in (
        {"exc_type": "Strange", "exc_message": ["x", 1], "exc_module": "not.imported"},
        {"exc_type": "Strange", "exc_message": ["x", 1]},
        {"exc_type": "a.b.<locals>.Strange", "exc_message": ["x", 1], "exc_module": "builtins"},
    ):
        back = exception_from_wire(wire)
        assert (type(back).__name__, type(back).__module__, back.args) == ("Strange", CREATED_MODULE, ("x", 1))


def test_nested_classes_are_found() -> None:
    wire = exception_to_wire(Outer.Inner("x"))
    assert wire["exc_type"] == "Outer.Inner"
    sys.modules.setdefault(__name__, sys.modules[Outer.__module__])
    assert type(exception_from_wire(wire)) is Outer.Inner


@pytest.mark.parametrize("name", ["eval", "print", "__build_class__", "int", "ValueError.__init__"])
def test_what_is_no_exception_is_refused(name: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        exception_from_wire({"exc_type": name, "exc_message": ["1"], "exc_module": "builtins"})
    assert "is not an exception class" in str(caught.value)


def test_nothing_is_imported() -> None:
    assert "antigravity" not in sys.modules
    exception_from_wire({"exc_type": "Error", "exc_message": [], "exc_module": "antigravity"})
    assert "antigravity" not in sys.modules


def test_messages_of_older_writers() -> None:
    assert exception_from_wire({"exc_type": "ValueError", "exc_message": "x", "exc_module": "builtins"}).args == ("x",)


def test_a_constructor_that_fails() -> None:
    wire = {"exc_type": "UnicodeDecodeError", "exc_message": ["x"], "exc_module": "builtins"}
    back = exception_from_wire(wire)
    assert (type(back), str(back)) == (Exception, "UnicodeDecodeError('x')")


@pytest.mark.parametrize("stored", [None, 5, "x", [], {}, {"exc_type": 5}, {"exc_type": ""}])
def test_what_is_no_stored_exception(stored: object) -> None:
    with pytest.raises(MalformedMessage):
        exception_from_wire(stored)


@given(
    name=st.text(max_size=12) | st.sampled_from(["ValueError", "Retry", "\0", "\ud800", "..", "a.b"]),
    module=st.none() | st.text(max_size=12) | st.sampled_from(["builtins", "celery.exceptions", "os", "sys", "json"]),
    message=st.none() | st.integers() | st.text(max_size=5) | st.lists(st.none() | st.integers() | st.text()),
)
def test_arbitrary_stored_exceptions_raise_nothing_else(name: str, module: str | None, message: object) -> None:
    with contextlib.suppress(MalformedMessage):
        back = exception_from_wire({"exc_type": name, "exc_module": module, "exc_message": message})
        assert isinstance(back, BaseException)
