"""What visitors without the permission ``payload`` do not see, taken out of records before anything is made of them.

A task's arguments, results, exception texts and logs may be anybody's data. Every field of the records that can hold
such text is named here, every other field by its absence: a test goes through the records and fails on a field that
nobody has decided about. Counts, times, names and ids stay. Thread: any; pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from opsq.events.grammar import EVERYTHING, Either, Every, Fault, Id, Named, Node, Not, Pair, Query, Text
from opsq.events.grammar_fields import ALIASES
from opsq.events.records import TaskDetail, TaskItem, TaskPage, Try
from opsq.events.search import Search
from opsq.web.access.door import Visitor
from opsq.web.terms import Filter

PAYLOAD: Final = "payload"
HIDDEN: Final = "hidden"
"""What stands where something was taken out."""

ITEM_TEXTS: Final = ("args", "kwargs", "result")
"""Fields of a ``TaskItem`` that hold what was passed or returned; ``exception`` keeps its type."""
TRY_TEXTS: Final = ("result", "traceback")
DETAIL_TEXTS: Final = ("traceback", "payload")
SAFE_DETAILS: Final = frozenset(
    {
        "acked_at", "at", "attempt", "child_pid", "complete", "cpu_s", "current", "delivered_at", "eta", "exchange",
        "expired", "expires", "finished_at", "fingerprint", "kind", "name", "parent_id", "pool", "published_at",
        "queue", "requeue", "root_id", "routing_key", "rss_bytes", "runtime", "signum", "slot_at", "started_at",
        "terminated", "total", "version", "worker",
    }
)  # fmt: skip
"""Further fields of events that anybody may see. All others, also those nobody here knows, are hidden."""
_TYPE_NAME: Final = re.compile(r"[A-Za-z_][\w.]{0,199}")


def sees_payload(visitor: Visitor) -> bool:
    """Tell whether a visitor may see arguments, results, exception texts and logs."""
    return PAYLOAD in visitor.grants


def item(found: TaskItem, visitor: Visitor) -> TaskItem:
    """A row of the list as the visitor may see it."""
    if sees_payload(visitor):
        return found
    return msgspec.structs.replace(found, **_blanks(found, ITEM_TEXTS), exception=exception_type(found.exception))


def page(found: TaskPage, visitor: Visitor) -> TaskPage:
    """A page of the list as the visitor may see it."""
    if sees_payload(visitor):
        return found
    return msgspec.structs.replace(found, items=tuple(item(each, visitor) for each in found.items))


def detail(found: TaskDetail, visitor: Visitor) -> TaskDetail:
    """Everything known of a task, as the visitor may see it."""
    if sees_payload(visitor):
        return found
    return msgspec.structs.replace(
        found,
        item=item(found.item, visitor),
        tries=tuple(_try(each) for each in found.tries),
        **_blanks(found, DETAIL_TEXTS),
        parent=item(found.parent, visitor) if found.parent is not None else None,
        children=tuple(item(child, visitor) for child in found.children),
        others=tuple(details(other) for other in found.others),
    )


def _try(found: Try) -> Try:
    return msgspec.structs.replace(
        found,
        **_blanks(found, TRY_TEXTS),
        exception=exception_type(found.exception),
        details=details(found.details),
    )


def details(found: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an event: what is known to be harmless as it is, of the rest only that it is there."""
    return {key: value if key in SAFE_DETAILS else HIDDEN for key, value in found.items()}


def _blanks(found: msgspec.Struct, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: HIDDEN for name in names if getattr(found, name) is not None}


def exception_type(text: str | None) -> str | None:
    """The type of an exception from its repr, ``KeyError`` of ``KeyError('anna')``; ``hidden`` of anything else."""
    if text is None:
        return None
    found = _TYPE_NAME.match(text)
    rest = text[found.end() : found.end() + 1] if found else "?"
    return found.group() if found is not None and rest in ("", "(") else HIDDEN


def asked_by(asked: Filter, visitor: Visitor) -> Filter:
    """A search as the visitor may ask it: whether something matches is an answer too.

    Free words look at names and ids alone; a term about hidden text is left out and named as the first fault.
    Asked again of its own answer it changes nothing.
    """
    if sees_payload(visitor):
        return asked
    hidden: list[str] = []
    root = _allowed(asked.search.root, hidden) or EVERYTHING
    faults = tuple(_fault(asked.source, name) for name in dict.fromkeys(hidden)) + asked.search.faults
    return replace(asked, search=Search(Query(root, faults), asked.search.asked_at))


def _allowed(node: Node, hidden: list[str]) -> Node | None:
    if isinstance(node, Every | Either):
        parts = tuple(part for part in (_allowed(each, hidden) for each in node.parts) if part is not None)
        return type(node)(parts) if parts or not node.parts else None
    if isinstance(node, Not):
        part = _allowed(node.part, hidden)
        return None if part is None else Not(part)
    if isinstance(node, Text) and not node.field:
        pattern = re.sub(r"[\[\]*?]", "?", node.text)
        return Either((Named("type", (f"*{pattern}*",)), Id("id", node.text)))
    if isinstance(node, Text | Pair):
        hidden.append("kwargs" if isinstance(node, Pair) else node.field)
        return None
    return node


def _fault(line: str, name: str) -> Fault:
    spellings = (name, *(alias for alias, meant in ALIASES.items() if meant == name))
    found = re.search(rf"\b({'|'.join(spellings)}):", line, re.IGNORECASE)
    problem = f"searching {name} needs the permission to see payloads"
    return Fault(problem, found.start() if found else 0, len(found.group()) if found else 1)
