"""Standing orders in Redis: one sorted set, each order scored by the second at which it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

from opsq.broker.redis.wire import Wire, Word
from opsq.broker.standing import ORDERS_MAX, StandingOrder, from_key_text, key_text


class RedisBook:
    """Source: ``opsq.broker.standing.Book``. key: of the sorted set."""

    def __init__(self, wire: Wire, key: str) -> None:
        self._wire = wire
        self._key = key

    def add(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders, in one round trip."""
        words: list[Word] = ["ZADD", self._key]
        for each in orders:
            words += ["+inf" if each.until is None else repr(each.until), key_text(each)]
        trim = ("ZREMRANGEBYSCORE", self._key, "-inf", repr(now))
        surplus = ("ZREMRANGEBYRANK", self._key, 0, -(ORDERS_MAX + 1))
        self._wire.calls([trim, words, surplus])

    def lift(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders no longer."""
        self._wire.call("ZREM", self._key, *map(key_text, orders))

    def read(self, now: float) -> list[StandingOrder]:
        """Every order that holds at ``now``."""
        pairs = self._wire.call("ZRANGEBYSCORE", self._key, f"({now!r}", "+inf", "WITHSCORES")
        found = (from_key_text(text, None if math.isinf(score) else float(score)) for text, score in pairs or ())
        return [each for each in found if each is not None]
