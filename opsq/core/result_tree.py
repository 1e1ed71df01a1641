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


def graph_of(root: Any, intermediate: bool = False) -> dict[Any, list[Any]]:
    """What called what, as a table of handle to handles. Raises: IncompleteStream."""
    graph: dict[Any, list[Any]] = {}
    for parent, node in walk(root, intermediate):
        graph.setdefault(node, [])
        if parent is not None:
            graph[parent].append(node)
    return graph
