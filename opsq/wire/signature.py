"""Signatures: calls as data, and the workflows built of them.

Source: Celery protocol, section "Signature objects". Reading is tolerant of missing keys, bounded
in depth and size, and names the place of what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from opsq.errors import MalformedMessage
from opsq.wire.limits import DEFAULT_LIMITS, Limits

CHAIN_TASK = "celery.chain"
GROUP_TASK = "celery.group"
CHORD_TASK = "celery.chord"
_SIX_KEYS = frozenset({"task", "args", "kwargs", "options", "subtask_type", "immutable"})


class Call(Struct, frozen=True, kw_only=True):
    """One task to be called.

    immutable: the parent's result is not put before args. subtask_type: as found when it is one we
    have no class for. extra: keys beyond the six, such as an old producer's ``chord_size``.
    """

    task: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    immutable: bool = False
    subtask_type: str | None = None
    extra: dict[str, Any] = {}


class Chain(Struct, frozen=True, kw_only=True):
    """Tasks one after the other, in execution order."""

    tasks: tuple[Signature, ...]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    immutable: bool = False
    extra: dict[str, Any] = {}


class Group(Struct, frozen=True, kw_only=True):
    """Tasks side by side."""

    tasks: tuple[Signature, ...]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    immutable: bool = False
    extra: dict[str, Any] = {}


class Chord(Struct, frozen=True, kw_only=True):
    """A header side by side, then a body with the list of its results.

    header: a group, or the bare tuple of its tasks; both occur. kwargs: those of the chord other
    than header and body; its key ``kwargs`` is passed to the body. body is None while it is open.
    """

    header: Group | tuple[Signature, ...]
    body: Signature | None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    immutable: bool = False
    extra: dict[str, Any] = {}


Signature = Call | Chain | Group | Chord


def signature_to_wire(node: Signature) -> dict[str, Any]:
    """Write a signature with the six keys, all always present."""
    if isinstance(node, Chain):
        return _wire(node, CHAIN_TASK, "chain", {"tasks": [signature_to_wire(each) for each in node.tasks]})
    if isinstance(node, Group):
        return _wire(node, GROUP_TASK, "group", {"tasks": [signature_to_wire(each) for each in node.tasks]})
    if isinstance(node, Chord):
        header: Any
        header = (
            signature_to_wire(node.header)
            if isinstance(node.header, Group)
            else [signature_to_wire(each) for each in node.header]
        )
        body = None if node.body is None else signature_to_wire(node.body)
        return _wire(node, CHORD_TASK, "chord", {"header": header, "body": body})
    return _wire(node, node.task, node.subtask_type, {})


def _wire(node: Signature, task: str, subtask_type: str | None, parts: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": task,
        "args": list(node.args),
        "kwargs": {**parts, **node.kwargs},
        "options": dict(node.options),
        "subtask_type": subtask_type,
        "immutable": node.immutable,
        **node.extra,
    }


def parse_signature(value: object, limits: Limits = DEFAULT_LIMITS, path: str = "$") -> Signature:
    """Read a signature and everything inside it.

    Raises: MalformedMessage naming the place, and nothing else.
    """
    return _Parser(limits).signature(value, path, 0)


class _Parser:
    """Carries the count of signatures through one parse, against documents that share parts."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._seen = 0

    def signature(self, value: object, path: str, depth: int) -> Signature:
        """Read one signature, of any kind."""
        if not isinstance(value, dict):
            raise MalformedMessage(f"a signature must be an object, got {type(value).__name__}", path)
        if depth > self._limits.max_depth:
            raise MalformedMessage(f"signatures are nested deeper than {self._limits.max_depth}", path)
        self._seen += 1
        if self._seen > self._limits.max_nodes:
            raise MalformedMessage(f"more than {self._limits.max_nodes} signatures", path)
        kind = value.get("subtask_type")
        read = _KINDS.get(kind) if isinstance(kind, str) else None
        return self._call(value, path) if read is None else read(self, value, path, depth)

    def many(self, value: object, path: str, depth: int) -> tuple[Signature, ...]:
        """Read an array of signatures."""
        if not isinstance(value, (list, tuple)):
            raise MalformedMessage(f"expected an array of signatures, got {type(value).__name__}", path)
        return tuple(self.signature(each, f"{path}[{index}]", depth + 1) for index, each in enumerate(value))

    def _call(self, value: dict[Any, Any], path: str) -> Call:
        task = value.get("task")
        if not isinstance(task, str) or not task:
            raise MalformedMessage("a signature must name its task", f"{path}.task")
        kind = value.get("subtask_type")
        return Call(task=task, subtask_type=kind if isinstance(kind, str) else None, **_common(value, path))

    def chain(self, value: dict[Any, Any], path: str, depth: int) -> Chain:
        """Read a chain."""
        common = _common(value, path)
        tasks = common["kwargs"].pop("tasks", ())
        return Chain(tasks=self.many(tasks, f"{path}.kwargs.tasks", depth), **common)

    def group(self, value: dict[Any, Any], path: str, depth: int) -> Group:
        """Read a group."""
        common = _common(value, path)
        tasks = common["kwargs"].pop("tasks", ())
        return Group(tasks=self.many(tasks, f"{path}.kwargs.tasks", depth), **common)

    def chord(self, value: dict[Any, Any], path: str, depth: int) -> Chord:
        """Read a chord, whose header may be an array or a group."""
        common = _common(value, path)
        header, body = common["kwargs"].pop("header", ()), common["kwargs"].pop("body", None)
        header_path = f"{path}.kwargs.header"
        return Chord(
            header=self._header(header, header_path, depth),
            body=None if body is None else self.signature(body, f"{path}.kwargs.body", depth + 1),
            **common,
        )

    def _header(self, value: object, path: str, depth: int) -> Group | tuple[Signature, ...]:
        if not isinstance(value, dict):
            return self.many(value, path, depth)
        node = self.signature(value, path, depth + 1)
        return node if isinstance(node, Group) else (node,)


_Read = Callable[[_Parser, dict[Any, Any], str, int], Signature]
_KINDS: Mapping[str, _Read] = MappingProxyType({"chain": _Parser.chain, "group": _Parser.group, "chord": _Parser.chord})


def _common(value: dict[Any, Any], path: str) -> dict[str, Any]:
    args = value.get("args")
    if args is not None and not isinstance(args, (list, tuple)):
        raise MalformedMessage(f"args must be an array, got {type(args).__name__}", f"{path}.args")
    return {
        "args": tuple(args or ()),
        "kwargs": _object(value, "kwargs", path),
        "options": _object(value, "options", path),
        "immutable": bool(value.get("immutable", False)),
        "extra": {key: part for key, part in value.items() if key not in _SIX_KEYS},
    }


def _object(value: dict[Any, Any], key: str, path: str) -> dict[str, Any]:
    part = value.get(key)
    if part is None:
        return {}
    if not isinstance(part, dict) or not all(isinstance(name, str) for name in part):
        raise MalformedMessage(f"{key} must be an object with text keys, got {type(part).__name__}", f"{path}.{key}")
    return dict(part)
