"""Delays that the broker waits for: a ladder of queues, one for each power of two of seconds.

A message enters at the top with its delay in binary at the front of its routing key. At each level a
1 sends it into a queue whose messages expire after that many seconds, a 0 straight on; so it arrives
at ``celery_delayed_delivery`` when all its ones have been waited for. A long countdown held by a
worker would instead run into RabbitMQ's consumer_timeout of 30 minutes.

Source: celery-protocol A.12, "Delayed delivery on RabbitMQ"; names and arguments are Celery's.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs

from opsq.broker.message import OutMessage
from opsq.broker.topology import QueueSpec
from opsq.errors import MalformedMessage
from opsq.wire.times import parse_epoch

LEVELS = 28
LADDER = "celery_delayed_"
DELAYS = f"{LADDER}{LEVELS - 1}"
FINAL = f"{LADDER}delivery"
_MOST_S = 2**LEVELS - 1


class Delays(Struct, frozen=True):
    """Which messages wait in the broker. after_s: those to run later than this. queue_type: of the ladder."""

    after_s: float
    queue_type: str = "quorum"


def level(number: int) -> str:
    """Return the name of the exchange, and of the queue, that waits 2**number seconds."""
    return f"{LADDER}{number}"


def delayed(message: OutMessage, delays: Delays, now: float) -> OutMessage | None:
    """Return the message as it enters the ladder, or none when it need not.

    Only a message for a queue it names can: the ladder ends at queues. now: epoch seconds.
    """
    eta = message.headers.get("eta")
    if not isinstance(eta, str) or not isinstance(message.declare, QueueSpec):
        return None
    try:
        left_s = parse_epoch(eta, "$headers.eta") - now
    except MalformedMessage:
        return None  # the worker says so, where somebody sees it
    if left_s <= delays.after_s:
        return None
    # Whole seconds, rounded down: the worker holds the rest, and nothing comes late.
    seconds = min(max(int(left_s), 1), _MOST_S)
    bits = ".".join(format(seconds, f"0{LEVELS}b"))
    return structs.replace(message, exchange=DELAYS, routing_key=f"{bits}.{message.declare.name}")


def declare_ladder(channel: Any, delays: Delays) -> None:
    """Make sure all exchanges and queues of the ladder exist."""
    channel.exchange_declare(exchange=FINAL, type="topic", durable=True, auto_delete=False)
    below = FINAL
    for number in range(LEVELS):
        name = level(number)
        passed = "*." * (LEVELS - 1 - number)
        channel.exchange_declare(exchange=name, type="topic", durable=True, auto_delete=False)
        channel.queue_declare(queue=name, durable=True, auto_delete=False, arguments=_arguments(number, below, delays))
        channel.queue_bind(queue=name, exchange=name, routing_key=f"{passed}1.#")
        channel.exchange_bind(destination=below, source=name, routing_key=f"{passed}0.#")
        below = name


def bind_to_ladder(channel: Any, spec: QueueSpec) -> None:
    """Let a queue get what has waited."""
    channel.queue_bind(queue=spec.name, exchange=FINAL, routing_key=f"#.{spec.name}")


def _arguments(number: int, below: str, delays: Delays) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "x-queue-type": delays.queue_type,
        "x-overflow": "reject-publish",
        "x-message-ttl": 2**number * 1000,
        "x-dead-letter-exchange": below,
    }
    if delays.queue_type == "quorum":
        arguments["x-dead-letter-strategy"] = "at-least-once"
    return arguments
