"""Standing orders in MongoDB: one collection, a document per order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pymongo import DeleteOne, ReplaceOne

from opsq.broker.standing import ORDERS_MAX, StandingOrder, from_key_text, key_text

COLLECTION: Final = "opsq.standing"
#: Stands for "no end": later than any epoch second, and a number, so that one index and one order serve.
_NEVER: Final = 1e12


class MongoBook:
    """Source: ``opsq.broker.standing.Book``. database: of pymongo."""

    def __init__(self, database: Any) -> None:
        self._documents = database[COLLECTION]

    def add(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders, each document replaced whole."""
        self._documents.delete_many({"until": {"$lte": now}})
        self._documents.bulk_write([ReplaceOne(_id(each), {"until": each.until or _NEVER}, True) for each in orders])
        surplus = self._documents.count_documents({}) - ORDERS_MAX
        if surplus > 0:
            soonest = self._documents.find({}, ["_id"]).sort("until", 1).limit(surplus)
            self._documents.delete_many({"_id": {"$in": [each["_id"] for each in soonest]}})

    def lift(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders no longer."""
        self._documents.bulk_write([DeleteOne(_id(each)) for each in orders])

    def read(self, now: float) -> list[StandingOrder]:
        """Every order that holds at ``now``."""
        rows = self._documents.find({"until": {"$gt": now}})
        found = (from_key_text(each["_id"], None if each["until"] >= _NEVER else each["until"]) for each in rows)
        return [each for each in found if each is not None]


def _id(order: StandingOrder) -> dict[str, str]:
    return {"_id": key_text(order).decode()}
