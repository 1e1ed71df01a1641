from __future__ import annotations

import json
import pickle
import threading
import uuid
from typing import Any

import pytest

from opsq import Opsq, group
from opsq.broker.retry import NO_RETRY
from opsq.clock import ManualClock
from opsq.core.calls import build_message
from opsq.core.origin import Origin, new_id
from opsq.errors import UsageError
from opsq.signals import after_task_publish, before_task_publish, task_sent
from opsq.wire.content import accept_set
from opsq.wire.task import decode_body, parse_headers
from tests.unit.core.conftest import KeptMessages


@pytest.fixture
def add(app: Opsq) -> Any:
    @app.task(name="app.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    return add


def test_a_plain_call_looks_like_celerys(app: Opsq, add: Any, clock: ManualClock) -> None:
    message, event = build_message(app, "app.add", (2, 2), {}, {"task_id": "c7ec"})
    assert json.loads(message.body) == [
        [2, 2],
        {},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert (message.exchange, message.routing_key) == ("", "celery")
    assert message.headers == {
        "lang": "py",
        "task": "app.add",
        "id": "c7ec",
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": "c7ec",
        "parent_id": None,
        "argsrepr": "(2, 2)",
        "kwargsrepr": "{}",
        "origin": app.origin.name,
        "ignore_result": None,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
        "opsq_published_at": clock.now(),
    }
    assert message.properties == {
        "correlation_id": "c7ec",
        "reply_to": app.origin.thread_oid,
        "delivery_mode": 2,
        "priority": 0,
    }
    assert event is not None
    assert {
        key: event[key] for key in ("type", "uuid", "name", "args", "kwargs", "queue", "exchange", "routing_key")
    } == {
        "type": "task-sent",
        "uuid": "c7ec",
        "name": "app.add",
        "args": "(2, 2)",
        "kwargs": "{}",
        "queue": "celery",
        "exchange": "",
        "routing_key": "celery",
    }
    assert (event["hostname"], event["published_at"], event["attempt"]) == (app.origin.name, clock.now(), 1)


def test_every_option_reaches_the_wire(app: Opsq, add: Any) -> None:
    message, _ = build_message(
        app,
        "app.add",
        [2],
        {"y": 3},
        {
            "countdown": 10,
            "expires": 60,
            "retries": 2,
            "queue": "fast",
            "priority": 6,
            "compression": "zlib",
            "delivery_mode": "transient",
            "headers": {"my": 1},
            "link": add.s(1),
            "link_error": [add.si(2), add.s(3)],
            "shadow": "shadowed",
            "ignore_result": True,
            "time_limit": 30,
            "soft_time_limit": 20,
            "group_id": "g",
            "group_index": 4,
            "chord": add.s(),
            "chain": [add.s(9)],
            "root_id": "root",
            "parent_id": "parent",
            "reply_to": "me",
            "argsrepr": "args",
            "kwargsrepr": "kwargs",
            "stamped_headers": ["mid"],
            "mid": ["a"],
            "replaced_task_nesting": 1,
            "mandatory": True,
        },
    )
    headers = parse_headers(message.headers)
    assert headers.eta == "2026-09-21T14:13:30+00:00"
    assert headers.expires == "2026-09-21T14:14:20+00:00"
    assert (headers.retries, headers.shadow, headers.ignore_result, headers.timelimit) == (
        2,
        "shadowed",
        True,
        (30, 20),
    )
    assert (headers.group, headers.group_index, headers.root_id, headers.parent_id) == ("g", 4, "root", "parent")
    assert (headers.argsrepr, headers.kwargsrepr, headers.replaced_task_nesting) == ("args", "kwargs", 1)
    assert (headers.stamped_headers, headers.stamps) == (["mid"], {"mid": ["a"]})
    assert headers.user["my"] == 1
    assert headers.compression == "application/x-gzip"
    assert message.properties == {
        "correlation_id": headers.id,
        "reply_to": "me",
        "delivery_mode": 1,
        "priority": 6,
        "expiration": "60000",
        "mandatory": True,
    }
    assert (message.exchange, message.routing_key) == ("", "fast")
    body = decode_body(
        message.body, message.content_type, message.content_encoding, headers.compression, accept=accept_set(["json"])
    )
    assert (body.args, body.kwargs) == ([2], {"y": 3})
    embed = body.embed
    assert [len(part or ()) for part in (embed.callbacks, embed.errbacks, embed.chain)] == [1, 2, 1]
    assert embed.callbacks == [
        {"task": "app.add", "args": [1], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
    ]
    assert embed.errbacks is not None
    assert embed.errbacks[0]["immutable"] is True
    assert embed.chord is not None


def test_pickled_signatures_are_plain_dicts(app: Opsq, add: Any) -> None:
    message, _ = build_message(app, "app.add", (1,), {}, {"link": add.s(1), "serializer": "pickle"})
    callbacks = pickle.loads(message.body)[2]["callbacks"]
    assert type(callbacks[0]) is dict
    assert type(callbacks[0]["options"]) is dict


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cuontdown": 3}, "has no option 'cuontdown'; did you mean 'countdown'\\?"),
        ({"que": "x"}, "did you mean 'queue'"),
        ({"link": 3}, "link is a signature or a list of them"),
        ({"link": ["x"]}, "link is a signature, such as add.s"),
        ({"priority": 300}, "priority is a whole number from 0 to 255, got 300"),
        ({"priority": "high"}, "priority is a whole number"),
        ({"delivery_mode": 3}, "delivery_mode is 1"),
        ({"args": [1]}, "has no option 'args'"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_called(app: Opsq, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        app.send_task("x", **options) if "args" not in options else build_message(app, "x", (), {}, options)


def test_task_ids_are_any_text_up_to_155(app: Opsq, add: Any, kept: KeptMessages) -> None:
    assert add.apply_async((1,), task_id="é" * 155).id == "é" * 155
    for wrong in ("", "x" * 156, 3):
        with pytest.raises(UsageError, match="task_id is text of 1 to 155 characters"):
            add.apply_async((1,), task_id=wrong)


def test_arguments_that_the_serializer_cannot_write(app: Opsq, add: Any) -> None:
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        add.delay(object())


def test_delay_publishes_the_message_and_its_event_together(app: Opsq, add: Any, kept: KeptMessages) -> None:
    result = add.delay(1, y=2)
    assert [message.headers.get("id") for message in kept.messages] == [result.id, None]
    assert len(kept.calls) == 1
    event = kept.messages[1]
    assert (event.exchange, event.routing_key) == ("celeryev", "task.sent")
    assert event.properties["delivery_mode"] == 1
    assert json.loads(event.body)["uuid"] == result.id


def test_no_event_when_nobody_wants_it(clock: ManualClock, app: Opsq, kept: KeptMessages) -> None:
    app.conf.task_send_sent_event = False

    @app.task
    def quiet() -> None: ...

    quiet.delay()
    assert len(kept.messages) == 1


def test_a_task_without_events_sends_none(app: Opsq, kept: KeptMessages) -> None:
    @app.task(send_events=False)
    def quiet() -> None: ...

    quiet.delay()
    (quiet.s() | quiet.si()).apply_async()
    group(quiet.s(), quiet.s()).apply_async()
    assert kept.events == []


def test_a_task_without_events_leaves_no_gap_in_the_numbers(app: Opsq, add: Any, kept: KeptMessages) -> None:
    @app.task(send_events=False)
    def quiet() -> None: ...

    for call in (add.s(1), quiet.s(), add.s(2)):
        call.delay()
    first, second = (json.loads(event.body)["seq"] for event in kept.events)
    assert second == first + 1, "a monitor counts a number that never comes as a lost event"


def test_options_of_the_task_and_of_the_call(app: Opsq, kept: KeptMessages) -> None:
    @app.task(queue="slow", priority=3, time_limit=60, soft_time_limit=50, expires=10, serializer="pickle")
    def work() -> None: ...

    work.delay()
    work.apply_async(queue="fast", time_limit=5)
    app.send_task("shop.test_call_messages.work", queue="other")
    app.send_task(str(work.name))
    first, second, unknown, known = kept.tasks
    assert (first.routing_key, first.properties["priority"], first.headers["timelimit"]) == ("slow", 3, [60, 50])
    assert first.content_type == "application/x-python-serialize"
    assert first.properties["expiration"] == "10000"
    assert (second.routing_key, second.headers["timelimit"]) == ("fast", [5, 50])
    assert unknown.content_type == "application/json"
    assert known.routing_key == "slow", "send_task takes the options of a task that is registered here"


def test_retry_options_reach_the_publisher(app: Opsq, add: Any, kept: KeptMessages) -> None:
    add.apply_async((1,), retry=False, timeout=3)
    add.apply_async((1,), retry_policy={"max_retries": 7})
    add.apply_async((1,))
    assert [call["retry"].max_retries if call["retry"] else None for call in kept.calls] == [0, 7, None]
    assert kept.calls[0]["deadline_s"] == 3
    with pytest.raises(UsageError, match="retry policy: 'max_retrys' is not known"):
        add.apply_async((1,), retry_policy={"max_retrys": 1})


def test_retry_options_of_a_workflow_reach_the_publisher(app: Opsq, add: Any, kept: KeptMessages) -> None:
    (add.s(1) | add.s(2)).apply_async(retry=False, timeout=3)
    assert kept.calls == [{"deadline_s": 3, "retry": NO_RETRY}]
    group(add.s(1), add.s(2).set(timeout=7), add.s(3).set(timeout=7)).apply_async()
    assert [(call["deadline_s"], call["retry"]) for call in kept.calls[1:]] == [(None, None), (7, None)]


def test_send_many_shares_one_event_message(app: Opsq, add: Any, kept: KeptMessages) -> None:
    results = app.send_many([add.s(1, 2), ("other.task", [1]), ("bare",)])
    assert [message.headers["id"] for message in kept.tasks] == [result.id for result in results]
    assert [message.headers["task"] for message in kept.tasks] == ["app.add", "other.task", "bare"]
    assert len(kept.calls) == 1
    (event,) = kept.events
    assert event.routing_key == "task.multi"
    assert [each["uuid"] for each in json.loads(event.body)] == [result.id for result in results]


def test_send_many_goes_in_batches(app: Opsq, kept: KeptMessages) -> None:
    app.send_many(("t", (n,)) for n in range(1201))
    assert len(kept.tasks) == 1201
    assert len(kept.calls) == 3


def test_publish_signals(app: Opsq, add: Any, kept: KeptMessages) -> None:
    seen: list[tuple[str, Any]] = []

    def before(sender: Any = None, headers: Any = None, body: Any = None, **_: Any) -> None:
        headers["trace"] = "abc"
        seen.append((sender, body[0]))

    def after(sender: Any = None, headers: Any = None, **_: Any) -> None:
        seen.append((sender, headers["trace"]))

    def sent(sender: Any = None, task_id: Any = None, **_: Any) -> None:
        seen.append((sender, task_id))

    before_task_publish.connect(before)
    after_task_publish.connect(after, sender="app.add")
    task_sent.connect(sent)
    result = add.delay(1, 2)
    app.send_task("other")
    for signal, receiver in ((before_task_publish, before), (task_sent, sent)):
        signal.disconnect(receiver)
    after_task_publish.disconnect(after, sender="app.add")
    assert seen[:3] == [("app.add", (1, 2)), ("app.add", "abc"), ("app.add", result.id)]
    assert kept.tasks[0].headers["trace"] == "abc", "tracing libraries add headers here"
    assert [name for name, _ in seen[3:]] == ["other", "other"]


def test_ids_are_version_4_uuids() -> None:
    ids = [new_id() for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(uuid.UUID(id).version == 4 and str(uuid.UUID(id)) == id for id in ids)


def test_each_thread_has_an_address_of_its_own() -> None:
    origin = Origin()
    addresses = [origin.thread_oid]
    thread = threading.Thread(target=lambda: addresses.append(origin.thread_oid))
    thread.start()
    thread.join()
    assert addresses[0] == origin.thread_oid
    assert len({*addresses, origin.oid}) == 3
