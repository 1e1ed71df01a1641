"""Messages that end, or trap, a Celery worker: opsq says what is wrong with each and goes on.

Source: celery-protocol A.3, "Poison messages". The worker has default settings, so it accepts JSON only.
"""

from __future__ import annotations

import base64
import json
import pickle
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kombu import Connection

from tests.interop import cases, peers
from tests.interop.conftest import Broker
from tests.interop.peers import POOLS, Client, Peer, Place

JSON = ("application/json", "utf-8")
DEFAULTS = {"log_repeat_window": 0}
BODY = json.dumps([[1, 2], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()
PICKLED = pickle.dumps(([1, 2], {}, {}))
NOT_A_TASK = "a delivery is not a task message and is rejected"
NOT_RUN = "a task cannot be run"


@dataclass(frozen=True)
class Poison:
    """A message that any broker carries. said: words of the log line that must name the fault.

    headers: over those of a good message; None leaves one out.
    """

    said: str
    body: bytes = BODY
    headers: tuple[tuple[str, Any], ...] = ()
    content: tuple[str, str] = JSON


def with_header(said: str, name: str, value: Any) -> Poison:
    """A good message but for one header."""
    return Poison(said, headers=((name, value),))


ANYWHERE = {
    "body-of-no-elements": Poison(NOT_RUN, b"[]"),
    "body-of-one-element": Poison(NOT_RUN, b"[[1, 2]]"),
    "body-of-two-elements": Poison(NOT_RUN, b"[[1, 2], {}]"),
    "body-of-four-elements": Poison(NOT_RUN, b"[[1, 2], {}, {}, {}]"),
    "body-object-without-args": Poison(NOT_RUN, b'{"x": 1}'),
    "body-number": Poison(NOT_RUN, b"7"),
    "body-empty": Poison(NOT_RUN, b""),
    "body-no-json": Poison(NOT_RUN, b"[[1, 2], {}, {"),
    "body-no-utf8": Poison(NOT_RUN, b"[[\xff], {}, {}]"),
    "body-too-deep": Poison(NOT_RUN, b"[" * 10_000 + b"]" * 10_000),
    "args-number": Poison(NOT_RUN, b"[7, {}, {}]"),
    "kwargs-list": Poison(NOT_RUN, b"[[1, 2], [], {}]"),
    "embed-list": Poison(NOT_RUN, b"[[1, 2], {}, []]"),
    "embed-of-numbers": Poison(NOT_RUN, b'[[1, 2], {}, {"callbacks": 7, "chain": [7]}]'),
    "timelimit-of-one": with_header(NOT_A_TASK, "timelimit", [5]),
    "timelimit-text": with_header(NOT_A_TASK, "timelimit", ["soon", "later"]),
    "without-id": with_header(NOT_A_TASK, "id", None),
    "id-number": with_header(NOT_A_TASK, "id", 7),
    "task-number": with_header(NOT_A_TASK, "task", 7),
    "eta-text": with_header(NOT_A_TASK, "eta", "tomorrow"),
    "expires-text": with_header(NOT_A_TASK, "expires", "never"),
    "retries-text": with_header(NOT_A_TASK, "retries", "twice"),
    "compression-unknown": with_header(NOT_RUN, "compression", "application/x-nothing"),
    "compression-untrue": with_header(NOT_RUN, "compression", "application/x-gzip"),
    "no-task-at-all": with_header(NOT_A_TASK, "task", None),
    "content-unknown": Poison(NOT_A_TASK, content=("application/x-nothing", "utf-8")),
    "pickle-unasked": Poison(
        NOT_A_TASK, pickle.dumps(([1, 2], {}, {})), content=("application/x-python-serialize", "binary")
    ),
    "yaml-unasked": Poison(NOT_A_TASK, b"- [1, 2]\n- {}\n- {}\n", content=("application/x-yaml", "utf-8")),
}


def envelope(**changes: Any) -> dict[str, Any]:
    """A good message as it lies in a list of Redis, with changes; a name set to ``None`` is left out."""
    properties = {
        "correlation_id": str(uuid.uuid4()),
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "celery"},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    good = {
        "body": base64.b64encode(BODY).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": headers_of_a_good_one(),
        "properties": properties,
    }
    for name, value in changes.items():
        target, key = (properties, name) if name in properties else (good, name.replace("_", "-"))
        if value is None:
            del target[key]
        else:
            target[key] = value
    return good


def headers_of_a_good_one() -> dict[str, Any]:
    """Headers of a call of ``add``."""
    return {"task": "fleet_app.add", "id": str(uuid.uuid4()), "lang": "py", "retries": 0, "timelimit": [None, None]}


#: What lies in a list of Redis and is no envelope, or a broken one.
IN_REDIS: dict[str, bytes] = {
    "base64-untrue": json.dumps(envelope(body="no base64!")).encode(),
    "base64-cut": json.dumps(envelope(body="WzEs")).encode(),
    "body-no-text": json.dumps(envelope(body=[1, 2])).encode(),
    "body-encoding-unknown": json.dumps(envelope(body_encoding="rot13")).encode(),
    "no-json": b"\x80\x04hello",
    "text": b"hello",
    "number": b"7",
    "list": b"[1, 2, 3]",
    "null": b"null",
    "empty-object": b"{}",
    "without-properties": json.dumps(envelope(properties=None)).encode(),
    "properties-list": json.dumps(envelope(properties=[])).encode(),
    "without-delivery-info": json.dumps(envelope(delivery_info=None)).encode(),
    "without-delivery-tag": json.dumps(envelope(delivery_tag=None)).encode(),
    "delivery-info-list": json.dumps(envelope(delivery_info=[])).encode(),
    "headers-list": json.dumps(envelope(headers=[1])).encode(),
    "without-body": json.dumps({"headers": headers_of_a_good_one()}).encode(),
}
#: Odd, and run all the same, as Celery does.
STILL_GOOD: dict[str, dict[str, Any]] = {
    "without-priority": {"priority": None},
    "without-body-encoding": {"body_encoding": None, "body": BODY.decode()},
    "encoding-unknown": {"content_encoding": "klingon"},
    "stamps-list": {"headers": {**headers_of_a_good_one(), "stamps": [1]}},
    "task-and-id-only": {"headers": {"task": "fleet_app.add", "id": "x"}},
    "embed-null": {"body": base64.b64encode(b"[[1, 2], {}, null]").decode()},
    "fields-in-the-body": {"body": base64.b64encode(b'{"args": [1, 2], "kwargs": {}}').decode()},
}


@dataclass
class Victim:
    """A worker to be poisoned, and a client that asks whether it is well."""

    place: Place
    worker: Peer
    client: Client

    def is_well(self) -> None:
        """Run a good task there."""
        assert self.client.run("call", "fleet_app.add", [20, 3]) == 23, self.worker.text()
        assert self.worker.process.poll() is None, self.worker.text()

    def has_said(self, before: int, *words: str) -> None:
        """Wait until one of ``words`` is in the log after ``before``; another slot may be later than the good task."""
        cases.until(
            lambda: any(each in self.worker.text()[before:] for each in words),
            f"{words} in {self.worker.text()[before:]}",
        )


@pytest.fixture(scope="module", params=POOLS)
def victim(
    request: pytest.FixtureRequest, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Victim]:
    """A worker with default settings, and a Celery client."""
    folder = tmp_path_factory.mktemp(f"poison-{request.param}")
    place = Place(broker.apart(), broker.results, f"interop-{folder.name}", folder)
    with (
        peers.running_worker(place, "opsq", request.param, settings=DEFAULTS) as worker,
        peers.running_client(place, "celery", settings={}) as client,
    ):
        yield Victim(place, worker, client)


@pytest.mark.parametrize("name", ANYWHERE)
def test_a_poison_message_is_named_and_survived(victim: Victim, name: str) -> None:
    poison = ANYWHERE[name]
    headers = {**headers_of_a_good_one(), **dict(poison.headers)}
    before = len(victim.worker.text())
    with Connection(victim.place.broker) as connection:
        connection.Producer().publish(
            poison.body,
            routing_key=victim.place.queue,
            headers={key: value for key, value in headers.items() if value is not None},
            content_type=poison.content[0],
            content_encoding=poison.content[1],
        )
    victim.is_well()
    victim.has_said(before, poison.said)


def redis_of(victim: Victim) -> Any:
    """A client of the broker, where that is Redis."""
    if not victim.place.broker.startswith("redis"):
        pytest.skip("about lists in Redis")
    redis = pytest.importorskip("redis")
    return redis.Redis.from_url(victim.place.broker)


@pytest.mark.parametrize("name", IN_REDIS)
def test_what_is_no_envelope_is_survived(victim: Victim, name: str) -> None:
    with redis_of(victim) as redis:
        before = len(victim.worker.text())
        redis.lpush(victim.place.queue, IN_REDIS[name])
        victim.is_well()
        victim.has_said(before, NOT_A_TASK, NOT_RUN)
        nothing_is_left(victim, redis)


@pytest.mark.parametrize("name", STILL_GOOD)
def test_what_is_only_odd_is_run(victim: Victim, name: str) -> None:
    with redis_of(victim) as redis:
        good = envelope(**STILL_GOOD[name])
        good["headers"] = {**good["headers"], "id": str(uuid.uuid4())}
        redis.lpush(victim.place.queue, json.dumps(good))
        assert victim.client.run("read", good["headers"]["id"])["value"] == 3
        victim.is_well()
        nothing_is_left(victim, redis)


def nothing_is_left(victim: Victim, redis: Any) -> None:
    """Check that no message of this queue waits, or is thought to be worked on."""

    def none() -> bool:
        held = [json.loads(each) for each in redis.hvals("unacked")]
        mine = [each for each in held if victim.place.queue in json.dumps(each)]
        return redis.llen(victim.place.queue) == 0 and not mine

    cases.until(none, "the end of every message")
