"""Handles to results, in trees: what a result says of its children, and what a saved group holds.

Source: Celery protocol, section "Task meta JSON", result tuples.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from opsq.errors import MalformedMessage
from opsq.wire.limits import DEFAULT_LIMITS, Limits


class ResultRef(Struct, frozen=True):
    """A handle to a result, in a tree: a task's has no children list, a group's has one."""

    id: str
    parent: ResultRef | None = None
    children: tuple[ResultRef, ...] | None = None


def ref_to_wire(ref: ResultRef) -> list[Any]:
    """Write ``[[id, parent], null]`` for a task, ``[[id, parent], [child, …]]`` for a group."""
    parent = ref_to_wire(ref.parent) if ref.parent is not None else None
    children = None if ref.children is None else [ref_to_wire(child) for child in ref.children]
    return [[ref.id, parent], children]


def parse_ref(value: object, limits: Limits = DEFAULT_LIMITS, path: str = "$", depth: int = 0) -> ResultRef:
    """Read a result tuple; a bare id in the first place is taken. Raises: MalformedMessage."""
    if depth > limits.max_depth:
        raise MalformedMessage(f"result tree is deeper than {limits.max_depth}", path)
    if isinstance(value, str):
        return ResultRef(value)
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= 2:
        raise MalformedMessage("expected a result [[id, parent], children]", path)
    head, nodes = value[0], value[1] if len(value) == 2 else None
    identity, parent = (head, None) if isinstance(head, str) else _head(head, path)
    if nodes is not None and not isinstance(nodes, (list, tuple)):
        raise MalformedMessage(f"children must be an array or null, got {type(nodes).__name__}", f"{path}[1]")
    return ResultRef(
        identity,
        None if parent is None else parse_ref(parent, limits, f"{path}[0][1]", depth + 1),
        None
        if nodes is None
        else tuple(parse_ref(each, limits, f"{path}[1][{index}]", depth + 1) for index, each in enumerate(nodes)),
    )


def _head(head: object, path: str) -> tuple[str, object]:
    if isinstance(head, (list, tuple)) and len(head) == 2 and isinstance(head[0], str):
        return head[0], head[1]
    raise MalformedMessage("expected [id, parent]", f"{path}[0]")
