"""Walk over a result and everything it called, as far as it is known. Retries list themselves as children."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from opsq.errors import RunError


class IncompleteStream(RunError):
    """A call has not ended, so what it calls is not known yet."""


def walk(root: Any, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
    """Yield (parent, handle) for ``root`` and everything it called, parents first.

    intermediate: go on past calls that have not ended. Raises: IncompleteStream otherwise.
    """
    seen: set[str] = set()
    waiting: deque[tuple[Any, Any]] = deque([(None, root)])
    while waiting:
        parent, node = waiting.popleft()
        if node.id in seen:
            continue
        seen.add(node.id)
        yield parent, node
        if node.ready():
            waiting.extend((node, child) for child in node.children or ())
        elif not intermediate:
            raise IncompleteStream(f"task {node.id} has not ended, so what it calls is not known yet")


def ids_around(node: Any) -> list[str]:
    """The ids of everything in the same workflow, as far as it is known: what came before, and what was called.

    Raises: BackendUnavailable.
    """
    before: list[Any] = []
    while node is not None and node not in before:
        before.append(node)
        node = node.parent
    ids: dict[str, None] = {}
    for each in reversed(before):
        for single in _singles(each):
            ids.update(dict.fromkeys(found.id for _parent, found in walk(single, intermediate=True)))
    return list(ids)


def _singles(node: Any) -> Iterator[Any]:
    members = getattr(node, "results", None)
    if members is None:
        yield node
        return
    for member in members:
        yield from _singles(member)


def graph_of(root: Any, intermediate: bool = False) -> dict[Any, list[Any]]:
    """What called what, as a table of handle to handles. Raises: IncompleteStream."""
    graph: dict[Any, list[Any]] = {}
    for parent, node in walk(root, intermediate):
        graph.setdefault(node, [])
        if parent is not None:
            graph[parent].append(node)
    return graph
