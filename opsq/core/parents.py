"""Notice that a result will never come because the header before it failed.

An opsq worker fails the body of such a chord; a Celery worker does not when the chord is a member of
another one, and its own client finds out by looking at the parents. So does this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opsq.core.result_store import value_of
from opsq.wire.states import PROPAGATE_STATES, READY_STATES

_MOST_MEMBERS: Final = 10_000


def groups_before(result: Any) -> list[Any]:
    """The groups among the parents of ``result``, as far as its handle knows them."""
    groups, seen, node = [], {result.id}, getattr(result, "_parent", None)
    while node is not None and node.id not in seen:
        seen.add(node.id)
        if hasattr(node, "results"):
            groups.append(node)
            node = node.parent
        else:
            node = node._parent
    return groups


def watching(result: Any, on_interval: Callable[[], object] | None) -> Callable[[], object] | None:
    """What to call while waiting for ``result``: ``on_interval``, and a look at the headers before it.

    The look raises a header's error when all its members have ended and the result is not there at the
    second look either.
    """
    groups = groups_before(result)
    if not groups:
        return on_interval
    suspected: list[BaseException] = []

    def look() -> None:
        if on_interval is not None:
            on_interval()
        error = next(filter(None, map(_failure, groups)), None)
        if error is None:
            suspected.clear()
        elif suspected:
            raise error
        else:
            suspected.append(error)

    return look


def _failure(group: Any) -> BaseException | None:
    """The first error of a header all of whose members have ended."""
    ids = [each.id for each in group._plain_results()] if len(group) <= _MOST_MEMBERS else []
    metas = group.backend.load_many(ids) if ids else {}
    if len(metas) < len(ids) or any(meta.status not in READY_STATES for meta in metas.values()):
        return None
    errors = (value_of(metas[id]) for id in ids if metas[id].status in PROPAGATE_STATES)
    return next((error for error in errors if isinstance(error, BaseException)), None)
