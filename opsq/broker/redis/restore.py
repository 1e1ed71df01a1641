"""Putting messages back at the head of their queues, marked as handed out before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from opsq.broker.redis.envelope import again, redelivered
from opsq.broker.redis.keys import Keys
from opsq.broker.redis.routes import Routes
from opsq.broker.redis.scripts import RESTORE, Scripts
from opsq.broker.redis.wire import Wire, Word

log = logging.getLogger(__name__)

_PART = 100


class Restored(NamedTuple):
    """messages: how many are in their queues again. unreadable: entries that stay where they are."""

    messages: int
    unreadable: int


class Restorer:
    """Thread: that of the wire."""

    def __init__(self, wire: Wire, scripts: Scripts, keys: Keys, routes: Routes) -> None:
        self._wire = wire
        self._scripts = scripts
        self._keys = keys
        self._routes = routes

    def from_lease(self, consumer: str, tags: Sequence[str]) -> int:
        """Put back what ``consumer`` holds of ``tags``, given in the order it took them; return how many."""
        return self._restore(tags, "lease", self._keys.lease(consumer)).messages

    def older_than(self, seconds: float, tags: Sequence[str]) -> Restored:
        """Put back those of ``tags`` that nobody has renewed for so long."""
        return self._restore(tags, f"{seconds:.6f}", self._keys.lease("nobody"))

    def _restore(self, tags: Sequence[str], guard: str, lease: str) -> Restored:
        # The newest first: each goes in front of the one before, so the oldest is delivered next.
        newest_first = list(reversed(tags))
        restored = unreadable = 0
        for start in range(0, len(newest_first), _PART):
            part = newest_first[start : start + _PART]
            entries = self._wire.call("HMGET", self._keys.unacked, *part)
            words: list[Word] = []
            for tag, entry in zip(part, entries, strict=True):
                found = self._words(tag, entry)
                unreadable += not found
                words += found
            if words:
                keys = [self._keys.unacked, self._keys.unacked_index, lease]
                answer = self._scripts.run(RESTORE, keys, guard, *words)
                restored += answer if isinstance(answer, int) else 0
        return Restored(restored, unreadable)

    def _words(self, tag: str, entry: bytes | None) -> list[Word]:
        """Return tag, lists and text for the script; nothing for an entry that cannot be read."""
        if entry is None:
            return [tag, "[]", ""]  # settled meanwhile, or swept by somebody else: only the traces go
        found = redelivered(entry)
        if found is None:
            log.error("an entry of unacked cannot be read and stays there", extra={"tag": tag, "entry": entry[:200]})
            return []
        message, exchange, routing_key = found
        queues: Sequence[str] = (routing_key,)
        if exchange:  # registered by kombu, which restores to every queue of the exchange
            queues = self._routes.queues(exchange, routing_key) or queues
        lists = [self._keys.queue(queue, message["properties"].get("priority")) for queue in queues]
        return [tag, msgspec.json.encode(lists), again(message)]
