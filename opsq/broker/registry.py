"""Which brokers there are: one table, by URL scheme.

Every broker named here runs the contract suite (``tests/contract/test_broker_contract.py`` fails
when one is missing). Schemes that only kombu knows work too, as far as its transport goes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from msgspec import Struct

from opsq.errors import ConfigError, Fault
from opsq.plugins import load_group, resolve


class Features(Struct, frozen=True, kw_only=True):
    """What a broker can do beyond publishing, routing, consuming and settling.

    head_requeue: what is given back is delivered next. keeps_unsettled: what was handed out comes
    back when its consumer dies. cross_process: several processes can use it. topics, fanout: one
    message reaches queues that other processes bound (events, remote control). ordered: oldest
    first. max_message_bytes: the broker's own limit on a message as it is written there.
    """

    priorities: bool = False
    message_ttl: bool = False
    queue_expiry: bool = False
    head_requeue: bool = False
    counts_deliveries: bool = False
    keeps_unsettled: bool = False
    cross_process: bool = False
    exact_depth: bool = False
    topics: bool = True
    fanout: bool = True
    ordered: bool = True
    max_message_bytes: int | None = None


class BrokerInfo(Struct, frozen=True, kw_only=True):
    """One broker. transport: path or class of its kombu transport; ``None`` for kombu's own."""

    name: str
    transport: Any = None
    features: Features = Features()


_RABBITMQ = Features(
    priorities=True,
    message_ttl=True,
    queue_expiry=True,
    # Not head_requeue: the slot that a rejection frees may be filled before RabbitMQ has put the message back.
    keeps_unsettled=True,
    cross_process=True,
)
# priorities: 0 is served first there, so a higher one is not; neither messages nor queues expire.
_REDIS = Features(head_requeue=True, counts_deliveries=True, keeps_unsettled=True, cross_process=True)
BROKERS: Mapping[str, BrokerInfo] = {
    "sqlite": BrokerInfo(
        name="sqlite",
        transport="opsq.broker.sqlite.transport:Transport",
        features=Features(
            priorities=True,
            message_ttl=True,
            queue_expiry=True,
            head_requeue=True,
            counts_deliveries=True,
            keeps_unsettled=True,
            cross_process=True,
            exact_depth=True,
        ),
    ),
    "memory": BrokerInfo(name="memory"),
    "redis": BrokerInfo(name="redis", transport="opsq.broker.redis.transport:Transport", features=_REDIS),
    "sentinel": BrokerInfo(name="sentinel", transport="opsq.broker.redis.transport:SentinelTransport", features=_REDIS),
    "amqp": BrokerInfo(name="amqp", transport="opsq.broker.amqp.transport:Transport", features=_RABBITMQ),
    "amqps": BrokerInfo(name="amqps", transport="opsq.broker.amqp.transport:TlsTransport", features=_RABBITMQ),
    "sqla": BrokerInfo(
        name="sqla",
        transport="opsq.broker.sql.transport:Transport",
        features=Features(
            queue_expiry=True,
            head_requeue=True,
            counts_deliveries=True,
            keeps_unsettled=True,
            cross_process=True,
        ),
    ),
    "sqs": BrokerInfo(
        name="sqs",
        transport="opsq.broker.sqs.transport:Transport",
        features=Features(
            counts_deliveries=True,
            keeps_unsettled=True,
            cross_process=True,
            topics=False,
            fanout=False,
            ordered=False,
            max_message_bytes=1_048_576,
        ),
    ),
    "mongodb": BrokerInfo(
        name="mongodb",
        transport="opsq.broker.mongodb.transport:Transport",
        features=Features(
            priorities=True,
            queue_expiry=True,
            head_requeue=True,
            counts_deliveries=True,
            keeps_unsettled=True,
            cross_process=True,
            max_message_bytes=16_777_216,
        ),
    ),
}
"""Brokers by URL scheme."""
_ALIASES: Mapping[str, str] = {"pyamqp": "amqp", "rediss": "redis", "sqlalchemy": "sqla"}

PLUGIN_GROUP = "opsq.brokers"


def find_broker(url: str) -> BrokerInfo:
    """Return the broker a URL is for.

    Raises: ConfigError when the URL has no scheme or nobody knows it.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or not scheme:
        raise ConfigError(
            "broker URL: expected scheme://…, such as sqlite:////var/lib/opsq/broker.db, "
            "redis://localhost:6379/0 or amqp://localhost//; got one without a scheme"
        )
    # sqla+postgresql://: kombu takes the part before the plus as its own.
    scheme = scheme.partition("+")[0]
    known = BROKERS.get(_ALIASES.get(scheme, scheme))
    if known is not None:
        return known
    if scheme in TRANSPORT_ALIASES:
        return BrokerInfo(name=scheme)
    plugin = load_group(PLUGIN_GROUP).get(scheme)
    if plugin is None:
        raise ConfigError([_unknown(scheme)])
    return plugin if isinstance(plugin, BrokerInfo) else BrokerInfo(name=scheme, transport=plugin)


def transport_of(broker: BrokerInfo) -> Any:
    """Return the transport class to hand to kombu; ``None`` to let kombu choose by scheme."""
    return resolve(broker.transport) if isinstance(broker.transport, str) else broker.transport


def _unknown(scheme: str) -> Fault:
    names = sorted({*BROKERS, *TRANSPORT_ALIASES})
    near = difflib.get_close_matches(scheme, names, n=1)
    return Fault(
        f"broker URL: no broker is called {scheme!r}",
        remedy=f"did you mean {near[0]}://?" if near else f"known are {', '.join(names)}",
    )
