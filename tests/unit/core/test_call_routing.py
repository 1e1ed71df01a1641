from __future__ import annotations

import re
from typing import Any

import pytest
from kombu import Exchange, Queue

from opsq.broker.topology import ExchangeSpec, QueueSpec
from opsq.core.queues import QueueNotFound, Queues
from opsq.core.routing import Destination, Router
from opsq.errors import ConfigError, UsageError
from opsq.settings import Settings


def router(routes: Any = None, **settings: Any) -> Router:
    paths = {"shop.routes:by_name": lambda name, *_a, **_k: {"queue": "dotted"} if name == "dotted.task" else None}
    return Router(routes, Queues(Settings(**settings)), paths.__getitem__)


def place(found: Destination) -> tuple[str, str, str | None]:
    return found.exchange, found.routing_key, found.queue_name


def where(made: Router, name: str = "a.b", **options: Any) -> tuple[str, str, str | None]:
    return place(made.route(name, (), {}, options))


def test_without_routes_the_default_queue_through_the_anonymous_exchange() -> None:
    found = router().route("a.b", (), {}, {})
    assert place(found) == ("", "celery", "celery")
    assert found.declare == QueueSpec(
        name="celery", exchange=ExchangeSpec(name="celery", type="direct"), routing_key="celery"
    )


@pytest.mark.parametrize(
    ("routes", "name", "queue"),
    [
        ({"mail.send": {"queue": "mail"}}, "mail.send", "mail"),
        ({"mail.send": "mail"}, "mail.send", "mail"),
        ({"mail.*": {"queue": "mail"}}, "mail.send", "mail"),
        ({"mail.*": {"queue": "mail"}}, "email.send", "celery"),
        ({"mail.*": "any", "mail.send": "exact"}, "mail.send", "exact"),
        ({re.compile(r"(video|image)\.tasks\..*"): {"queue": "media"}}, "image.tasks.thumb", "media"),
        ([("mail.*", {"queue": "mail"}), ("*", {"queue": "rest"})], "x", "rest"),
        ([{"a": "one"}, {"b": "two"}], "b", "two"),
        ("shop.routes:by_name", "dotted.task", "dotted"),
        (["shop.routes:by_name", {"*": "rest"}], "dotted.task", "dotted"),
        (["shop.routes:by_name", {"*": "rest"}], "other", "rest"),
        (lambda name, args, kwargs, options, task=None, **kw: f"q{args[0]}", "x", "q7"),
    ],
)
def test_routes(routes: Any, name: str, queue: str) -> None:
    assert router(routes).route(name, (7,), {}, {}).queue_name == queue


def test_options_of_the_call_win_over_the_route() -> None:
    made = router({"a.b": {"queue": "routed", "priority": 3, "routing_key": "r"}})
    assert where(made) == ("", "routed", "routed")
    assert where(made, queue="called") == ("", "called", "called")
    assert made.route("a.b", (), {}, {"queue": "called"}).extra == {"priority": 3}
    assert where(made, exchange="ex", routing_key="key") == ("ex", "key", None)


def test_a_function_is_asked_each_time_and_a_table_once() -> None:
    asked: list[str] = []

    def route(name: str, *_: Any, **__: Any) -> None:
        asked.append(name)

    made = router(route)
    made.route("a", (), {}, {})
    made.route("a", (), {}, {})
    assert asked == ["a", "a"]
    fixed = router({"a": "q"})
    assert fixed.route("a", (), {}, {}) is fixed.route("a", (), {}, {})


def test_topic_queue_uses_its_own_exchange_and_key() -> None:
    queues = [Queue("video", Exchange("media", type="topic"), routing_key="media.video")]
    made = router(task_queues=queues)
    assert where(made, queue="video") == ("media", "media.video", "video")
    assert where(made, queue="video", routing_key="media.x") == ("media", "media.x", "video")


def test_queues_from_every_form() -> None:
    forms: list[Any] = [
        [Queue("one"), "two", {"name": "three", "routing_key": "3"}],
        {"one": {}, "two": {}, "three": {"routing_key": "3"}},
        "one,two,three",
    ]
    for form in forms:
        queues = Queues(Settings(task_queues=form))
        assert [queue.name for queue in queues.declared] == ["one", "two", "three"]
        assert all(queue.routing_key for queue in queues.declared)


def test_a_declared_queue_without_exchange_gets_the_default_one() -> None:
    queue = Queues(Settings(task_queues=[QueueSpec(name="one")], task_default_exchange="ex")).declared[0]
    assert queue.exchange == ExchangeSpec(name="ex", type="direct")


def test_unknown_queues_are_made_or_refused() -> None:
    made = Queues(Settings(task_create_missing_queue_type="quorum", task_queue_max_priority=9))["new"]
    assert made.wire_arguments() == {"x-queue-type": "quorum", "x-max-priority": 9}
    strict = Queues(Settings(task_queues=["mail"], task_create_missing_queues=False))
    with pytest.raises(QueueNotFound, match=r"queue 'mial' is not in task_queues.*did you mean 'mail'\?"):
        strict["mial"]
    with pytest.raises(ConfigError, match="not in task_queues"):
        strict.select(["mial"])


def test_select_for_a_worker() -> None:
    queues = Queues(Settings(task_queues=["a", "b", "c"]))
    assert [queue.name for queue in queues.select([], ["b"])] == ["a", "c"]
    assert [queue.name for queue in queues.select(["x", "a"])] == ["x", "a"]


def test_a_fanout_queue_is_not_declared_by_publishers() -> None:
    queue = QueueSpec(name="bcast.1", exchange=ExchangeSpec(name="all", type="fanout"), auto_delete=True)
    found = router().route("a", (), {}, {"queue": queue})
    assert (found.exchange, found.declare) == ("all", None)


@pytest.mark.parametrize("routes", [3, [3], {3: "q"}])
def test_routes_of_unknown_form_are_refused(routes: Any) -> None:
    with pytest.raises(ConfigError, match="task_routes: expected"):
        router(routes)


def test_an_answer_of_unknown_form_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the route of task 'a' is a queue name or a table of options, got 3"):
        router(lambda *a, **k: 3).route("a", (), {}, {})
    with pytest.raises(UsageError, match="queue= is a name or a queue"):
        router().route("a", (), {}, {"queue": 3})
