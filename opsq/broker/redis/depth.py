"""How much waits in a queue, and for how long."""

from __future__ import annotations

import time

from opsq.broker.redis.envelope import unpack
from opsq.broker.redis.keys import Keys
from opsq.broker.redis.wire import Wire, Word
from opsq.broker.source import QueueDepth

PUBLISHED_AT = "opsq_published_at"


def depth_of(wire: Wire, keys: Keys, queue: str, *, known: bool) -> QueueDepth | None:
    """Return the depth of a queue; ``None`` when nothing tells of it. known: it was there before.

    Redis has no key for an empty queue; then it counts as there when an exchange of its name has
    bindings, as Celery and opsq declare queues. What is unacknowledged is not kept by queue. The age
    is known of messages that opsq published.
    """
    lists = keys.lists([queue])
    commands: list[tuple[Word, ...]] = [("LLEN", key) for key in lists]
    commands += [("LINDEX", key, -1) for key in lists]
    commands.append(("EXISTS", keys.binding(queue)))
    replies = wire.calls(commands)
    ready = sum(replies[: len(lists)])
    if not ready and not replies[-1] and not known:
        return None
    sent_at = [at for text in replies[len(lists) : -1] if text and (at := _published_at(text)) is not None]
    return QueueDepth(ready, oldest_age_s=max(0.0, time.time() - min(sent_at)) if sent_at else None)


def _published_at(text: bytes) -> float | None:
    at = unpack(text).headers.get(PUBLISHED_AT)
    return float(at) if isinstance(at, (int, float)) else None
