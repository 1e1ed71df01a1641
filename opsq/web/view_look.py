"""What somebody looked up: a worker's answer as names, a table, a tree or stacks; messages that wait. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from opsq.web import words
from opsq.web.hands import Peeked
from opsq.web.looking import Answered
from opsq.web.looks import Look
from opsq.web.view_common import Head, Link, Places, call_text
from opsq.web.view_payload import Leaf, leaves

MOST_ROWS: Final = 200
MOST_TEXT: Final = 300
MOST_STACK: Final = 20_000
MOST_NAMES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. href: where it leads, if anywhere. mono: it is an id or code."""

    text: str
    href: str = ""
    mono: bool = False
    css: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where one task is in its code. why: in words why that cannot be told, else empty."""

    name: str
    id: Link
    pid: str
    text: str
    why: str


@dataclass(frozen=True, slots=True)
class LookView:
    """The page of an answer; of names, rows, tree and stacks one is filled. nothing: said when all are empty."""

    heading: str
    target: str
    doc: str
    back: Link
    problem: str = ""
    names: tuple[Cell, ...] = ()
    heads: tuple[Head, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    tree: tuple[Leaf, ...] = ()
    stacks: tuple[Stack, ...] = ()
    note: str = ""
    nothing: str = ""


_NOTHING: Final[Mapping[str, str]] = MappingProxyType({
    "stack": "Nothing runs there now.", "reserved": "It holds no task.", "scheduled": "It holds no task for later.",
    "registered": "It knows no task.", "consuming": "It takes from no queue.", "statistics": "It told nothing.",
    "overrides": "Nothing is changed.", "settings": "All settings are the defaults.",
})  # fmt: skip


def look_view(look: Look, target: str, answered: Answered, places: Places) -> LookView:
    """Build the page of a worker's answer."""
    shown = {} if answered.problem else _SHAPES[look.verb](answered.value, places)
    return LookView(
        heading=look.label, target=target, doc=look.doc, back=Link(target, places.page("workers", target)),
        problem=answered.problem, nothing=_NOTHING[look.verb], **shown,
    )  # fmt: skip


def _stacks(value: Any, places: Places) -> dict[str, Any]:
    return {"stacks": tuple(_stack(one, places) for one in _records(value))}


def _stack(one: Mapping[str, Any], places: Places) -> Stack:
    id = _text(one.get("id"))
    return Stack(
        name=_text(one.get("name")), id=Link(words.short_id(id), places.task(id)), pid=_text(one.get("pid")),
        text=str(one.get("stack") or "")[:MOST_STACK], why=_text(one.get("why")),
    )  # fmt: skip


def _requests(value: Any, places: Places) -> dict[str, Any]:
    heads = (Head("Task"), Head("Id"), Head("Queue"), Head("Priority", "num"))
    return {"heads": heads, "rows": tuple(_request(one, places) for one in _records(value))}


def _request(one: Mapping[str, Any], places: Places) -> tuple[Cell, ...]:
    info = one.get("delivery_info")
    told = info if isinstance(info, Mapping) else {}
    id = _text(one.get("id"))
    return (
        Cell(_text(one.get("name"))), Cell(words.short_id(id), places.task(id), mono=True),
        Cell(_text(told.get("routing_key"))), Cell(_text(told.get("priority")) or "0", css="num"),
    )  # fmt: skip


def _held(value: Any, places: Places) -> dict[str, Any]:
    rows = []
    for one in _records(value):
        told = one.get("request")
        request = told if isinstance(told, Mapping) else {}
        rows.append((Cell(_text(one.get("eta")) or "its rate"), *_request(request, places)))
    heads = (Head("Until"), Head("Task"), Head("Id"), Head("Queue"), Head("Priority", "num"))
    return {"heads": heads, "rows": tuple(rows)}


def _registered(value: Any, places: Places) -> dict[str, Any]:
    found = [str(each)[:MOST_TEXT] for each in value] if isinstance(value, list) else []
    return {
        "names": tuple(
            Cell(each, places.page("types", each.partition(" [")[0]), mono=True) for each in found[:MOST_NAMES]
        )
    }


def _queues(value: Any, places: Places) -> dict[str, Any]:
    heads = (Head("Queue"), Head("Exchange"), Head("Routing key"), Head("Priorities", "num"))
    rows = []
    for one in _records(value):
        exchange = one.get("exchange")
        name = exchange.get("name") if isinstance(exchange, Mapping) else exchange
        rows.append((
            Cell(_text(one.get("name")), places.page("queues", _text(one.get("name")))), Cell(_text(name)),
            Cell(_text(one.get("routing_key"))), Cell(_text(one.get("max_priority")) or "none", css="num"),
        ))  # fmt: skip
    return {"heads": heads, "rows": tuple(rows)}


def _overrides(value: Any, places: Places) -> dict[str, Any]:
    heads = (Head("What"), Head("Now"), Head("Then"), Head("Until"))
    rows = tuple(
        (
            Cell(_text(one.get("what"))), Cell(_text(one.get("now"))),
            Cell(_text(one.get("then")) or words.NOT_APPLICABLE),
            Cell(_text(one.get("until")) or "somebody resumes it"),
        )
        for one in _records(value)
    )  # fmt: skip
    return {"heads": heads, "rows": rows}


def _tree(value: Any, places: Places) -> dict[str, Any]:
    return {"tree": leaves(sorted(value.items())) if isinstance(value, Mapping) else ()}


_SHAPES: Final[Mapping[str, Callable[[Any, Places], dict[str, Any]]]] = MappingProxyType({
    "stack": _stacks, "reserved": _requests, "scheduled": _held, "registered": _registered, "consuming": _queues,
    "statistics": _tree, "overrides": _overrides, "settings": _tree,
})  # fmt: skip


def messages_view(queue: str, found: Sequence[Peeked], problem: str, places: Places) -> LookView:
    """Build the page of the messages that wait in a queue, the next to be delivered first."""
    priorities = Counter(one.priority for one in found)
    by_priority = ", ".join(f"{words.count(count)} of priority {each}" for each, count in sorted(priorities.items()))
    heads = (
        Head("Task"), Head("Id"), Head("Arguments"), Head("Priority", "num"), Head("Size", "num"), Head("Not before"),
    )  # fmt: skip
    return LookView(
        heading="Next to be delivered", target=queue, problem=problem, nothing="Nothing waits in it.", heads=heads,
        doc="The messages that wait, taken, looked at and put back.", back=Link(queue, places.page("queues", queue)),
        rows=tuple(_message(one, places) for one in found),
        note=f"Of the first {words.plural(len(found), 'message')} {by_priority}." if found else "",
    )  # fmt: skip


def _message(one: Peeked, places: Places) -> tuple[Cell, ...]:
    id = one.id or ""
    again = " again" if one.redelivered else ""
    return (
        Cell((one.task or words.UNKNOWN)[:MOST_TEXT] + again),
        Cell(words.short_id(id), places.task(id), mono=True) if id else Cell(words.UNKNOWN),
        Cell(call_text(one.args, one.kwargs)[:MOST_TEXT], mono=True, css="cut"), Cell(str(one.priority), css="num"),
        Cell(words.size(one.size_bytes), css="num"), Cell(one.eta or "now"),
    )  # fmt: skip


def _records(value: Any) -> list[Mapping[str, Any]]:
    """The records of a list that somebody else made; whatever else is in it is left out."""
    return [each for each in value if isinstance(each, Mapping)][:MOST_ROWS] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return "" if value is None else str(value)[:MOST_TEXT]
