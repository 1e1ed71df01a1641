"""What RabbitMQ says when it refuses, in words that tell what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp import exceptions as amqp_errors

from opsq.broker.faults import BrokerUnusable
from opsq.errors import BrokerUnavailable


@contextmanager
def told(connection: Any) -> Iterator[None]:
    """Turn refusals that need a person into BrokerUnusable, and known ones into plain words.

    connection: with the ``address`` to name. Everything else passes as it is, for
    ``BrokerConnection.translated``.
    """
    try:
        yield
    except amqp_errors.AccessRefused as exc:
        raise BrokerUnusable(
            f"{connection.address} refused it: {exc}; give the user configure, write and read permission "
            "(rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*')"
        ) from exc
    except amqp_errors.PreconditionFailed as exc:
        raise _precondition(connection.address, str(exc)) from exc
    except amqp_errors.ResourceLocked as exc:  # may pass: the owner can be a connection of ours that died unseen
        raise BrokerUnavailable(
            f"{connection.address} refused it: {exc}; the queue is exclusive to another connection, so something else "
            "runs under the same name: give each worker a name of its own (-n)"
        ) from exc


def _precondition(address: str, said: str) -> BrokerUnavailable:
    if "acknowledgement" in said or "timed out" in said:
        return BrokerUnavailable(
            f"{address} took back deliveries that were held longer than RabbitMQ's consumer_timeout: {said}; tasks "
            "that run this long need a larger consumer_timeout in rabbitmq.conf (or x-consumer-timeout on the queue)"
        )
    return BrokerUnusable(
        f"{address} refused it: {said}; the queue or exchange exists with other arguments: declare it here as "
        "there (task_queues), or delete it on the broker once it is empty"
    )
