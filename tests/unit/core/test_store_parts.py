"""What the result stores share: telling a SUCCESS, lifetimes, looking less and less often, one client per process."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from opsq.core.backends.document import is_success
from opsq.core.backends.fields import Fields, readable, storable
from opsq.core.backends.keys import key_prefix
from opsq.core.backends.lifetimes import Lifetimes
from opsq.core.backends.per_process import PerProcess
from opsq.core.backends.polled import reason
from opsq.core.backends.polling import Pace, Polling
from opsq.errors import MalformedMessage
from opsq.settings import Settings
from opsq.wire.content import dumps
from opsq.wire.result import ResultMeta, encode_result


@pytest.mark.parametrize("serializer", ["json", "pickle", "msgpack", "yaml"])
@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "PROGRESS", "SUCCESSFUL"])
def test_a_success_is_told_in_every_serializer(serializer: str, status: str) -> None:
    """A value that speaks of a status of its own does not count."""
    document = encode_result(ResultMeta(task_id="a", status=status, result={"status": "SUCCESS"}), serializer)
    if serializer == "yaml":  # sorts its keys, so the value comes first
        document = dumps({"status": status}, "yaml")[0]
    assert is_success(document) is (status == "SUCCESS")


def test_a_success_of_celerys_is_told() -> None:
    assert is_success(b'{"status": "SUCCESS", "result": 1}')
    assert is_success(pickle.dumps({"status": "SUCCESS", "result": 1}, 2))
    assert not is_success(b"")


def test_failures_may_live_longer() -> None:
    lives = Lifetimes.of(Settings(result_expires=10, result_failure_expires=100))
    now = datetime(2026, 11, 21, tzinfo=UTC)
    ago = now - timedelta(seconds=50)
    assert lives.over("SUCCESS", ago, now.timestamp())
    assert lives.over("SUCCESS", ago.replace(tzinfo=None), now.timestamp())
    assert not lives.over("FAILURE", ago, now.timestamp())
    assert not lives.over("SUCCESS", None, now.timestamp())
    assert not Lifetimes.of(Settings(result_expires=0)).over("SUCCESS", ago, now.timestamp())


def test_a_waiter_looks_less_and_less_often_until_there_is_news() -> None:
    looks: list[int] = []
    there: dict[str, object] = {}

    def look(ids: Sequence[str]) -> Mapping[str, object]:
        looks.append(len(ids))
        return dict(there)

    waiter = Polling(look, ["a", "b"], Pace(0.001, 0.05))
    assert waiter.wait(0.2) is None
    assert len(looks) < 20, "each millisecond would be 200"
    there["b"] = "STARTED"
    assert waiter.wait(1.0) == {"b"}
    assert waiter.wait(0.0) is None
    there["b"] = "SUCCESS"
    assert waiter.wait(0.0) == {"b"}


def test_a_child_makes_a_client_of_its_own() -> None:
    made: list[int] = []
    ended: list[int] = []

    def make() -> int:
        made.append(os.getpid())
        return os.getpid()

    held = PerProcess(make, ended.append)
    assert held.get() == held.get() == os.getpid()
    child = os.fork()
    if child == 0:
        own = held.get() == os.getpid() and len(made) == 2
        held.close()
        os._exit(0 if own and ended == [os.getpid()] else 1)
    assert os.waitpid(child, 0)[1] == 0
    held.close()
    held.close()
    assert ended == [os.getpid()]
    assert held.get() == os.getpid()
    assert len(made) == 2


def test_what_cannot_be_read_is_given_on() -> None:
    def broken() -> bytes:
        raise MalformedMessage("no")

    assert readable(broken, b"raw") == b"raw"
    assert readable(broken, "é") == "é".encode()


def test_fields_refuse_what_is_not_accepted() -> None:
    fields = Fields(Settings())
    assert fields.decode(fields.encode({"a": 1})) == {"a": 1}
    with pytest.raises(MalformedMessage):
        fields.decode(pickle.dumps(1))


def test_text_for_every_database() -> None:
    assert storable("a\0b\ud800") == "a\ufffdb?"
    assert storable(None) is None


@pytest.mark.parametrize(("given", "used"), [("", ""), ("shop", "shop_"), ("shop:", "shop:"), ("a-", "a-")])
def test_prefix_of_keys(given: str, used: str) -> None:
    assert key_prefix(Settings(result_backend_transport_options={"global_keyprefix": given})) == used


def test_a_reason_is_one_line() -> None:
    assert reason(OSError("\n  first\nsecond")) == "first"
    assert reason(OSError()) == "OSError"
    assert len(reason(OSError("x" * 1000))) < 400
