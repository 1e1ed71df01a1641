"""Queues and exchanges as values."""

from __future__ import annotations

import kombu
import pytest

from opsq.broker.topology import (
    BindingSpec,
    ExchangeSpec,
    QueueSpec,
    event_exchange,
    event_queue,
    from_kombu,
    queue_named,
)
from opsq.errors import ConfigError


def test_a_name_gives_celerys_queue() -> None:
    spec = from_kombu("mail")
    assert spec == queue_named("mail")
    assert (spec.durable, spec.routing_key, spec.exchange) == (True, "mail", ExchangeSpec(name="mail"))


def test_a_kombu_queue_is_read_by_its_attributes() -> None:
    exchange = kombu.Exchange("media", type="topic", durable=False)
    queue = kombu.Queue(
        "videos", exchange, routing_key="media.#", message_ttl=5, expires=60, max_priority=9, auto_delete=True
    )
    spec = from_kombu(queue)
    assert spec.exchange == ExchangeSpec(name="media", type="topic", durable=False)
    assert (spec.routing_key, spec.auto_delete) == ("media.#", True)
    assert spec.wire_arguments() == {"x-message-ttl": 5000, "x-expires": 60000, "x-max-priority": 9}


def test_a_kombu_queue_with_several_bindings() -> None:
    exchange = kombu.Exchange("media")
    queue = kombu.Queue("all", [kombu.binding(exchange, routing_key="a"), kombu.binding(exchange, routing_key="b")])
    assert [each.routing_key for each in from_kombu(queue).all_bindings()] == ["a", "b"]


def test_a_mapping_is_read_like_celerys_task_queues() -> None:
    spec = from_kombu({"name": "q", "exchange": "e", "exchange_type": "topic", "routing_key": "k.#"})
    assert spec.all_bindings() == (BindingSpec(exchange=ExchangeSpec(name="e", type="topic"), routing_key="k.#"),)


def test_the_default_exchange_needs_no_binding() -> None:
    assert QueueSpec(name="q", exchange=ExchangeSpec(name="")).all_bindings() == ()


def test_named_limits_win_over_arguments() -> None:
    spec = QueueSpec(name="q", message_ttl_s=1.5, arguments={"x-message-ttl": 9, "x-queue-type": "quorum"})
    assert spec.wire_arguments() == {"x-message-ttl": 1500, "x-queue-type": "quorum"}


def test_specs_are_values() -> None:
    assert len({queue_named("a"), queue_named("a"), queue_named("b")}) == 2
    assert hash(QueueSpec(name="a", arguments={"x": 1})) == hash(QueueSpec(name="a"))


def test_event_topology_is_celerys() -> None:
    assert event_exchange().type == "topic"
    assert event_exchange(driver="redis").type == "fanout"
    spec = event_queue("1")
    assert (spec.name, spec.routing_key, spec.auto_delete, spec.durable) == ("celeryev.1", "#", True, False)
    assert spec.wire_arguments() == {"x-message-ttl": 5000, "x-expires": 60000}


@pytest.mark.parametrize("thing", [None, 3, {}, {"name": ""}, object()])
def test_anything_else_is_refused(thing: object) -> None:
    with pytest.raises(ConfigError, match="expected a queue"):
        from_kombu(thing)


def test_an_unknown_exchange_type_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"exchange 'e': expected a type of direct, .*, got 'nonsense'"):
        from_kombu(kombu.Queue("q", kombu.Exchange("e", type="nonsense")))
