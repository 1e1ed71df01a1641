"""What the task list can be filtered by: values with counts beside it, and terms while the line is typed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from opsq.events.grammar_fields import FIELDS, STATE_WORDS
from opsq.events.records import Facets, FacetValue
from opsq.events.views import ErrorGroup
from opsq.web import words
from opsq.web.faces import STATE_BY_WORD, Face, task_face
from opsq.web.terms import Filter
from opsq.web.view_common import Link, Places, quoted
from opsq.web.view_errors import error_title

FACET_ROWS: Final = 8
STATE_ORDER: Final = ("PENDING", "RECEIVED", "STARTED", "SUCCESS", "RETRY", "FAILURE", "REVOKED")
MAX_SUGGESTIONS: Final = 150
_LABELS: Final[Mapping[str, Callable[[str], str]]] = {"worker": words.short_host, "type": words.short_name}


@dataclass(frozen=True, slots=True)
class FacetRow:
    """One value to filter by, and how many tasks have it.

    line: the search line with it. small: says more of it. title: the whole of it.
    """

    label: str
    href: str
    count: str
    chosen: bool
    empty: bool
    face: Face | None = None
    line: str = ""
    small: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """An error and how many tasks failed by it under the filter, None where nobody counts them."""

    group: ErrorGroup
    failed: int | None


@dataclass(frozen=True, slots=True)
class FacetGroup:
    """The values of one field. more: where all of them are."""

    label: str
    rows: tuple[FacetRow, ...]
    more: Link | None = None


def suggestions(facets: Facets, errors: Sequence[ErrorCount]) -> tuple[tuple[str, str], ...]:
    """List what a term of the search line may be: fields with what they mean, states, and the names seen."""
    found = [(f"{field.name}:", f"{field.doc} {field.example}".replace("`", "")) for field in FIELDS.values()]
    found += [(f"state:{word}", "") for word in STATE_WORDS]
    for name, values in (("type", facets.type), ("queue", facets.queue), ("worker", facets.worker)):
        found += [(f"{name}:{quoted(one.value)}", words.plural(one.count, "task")) for one in values if one.value]
    kinds = dict.fromkeys(one.group.type for one in errors)
    found += [(f"exception:{quoted(kind)}", "the exception's type") for kind in kinds]
    found += [(f"fault:{quoted(one.group.fault)}", error_label(one.group)) for one in errors]
    return tuple(found[:MAX_SUGGESTIONS])


def facet_groups(facets: Facets, errors: Sequence[ErrorCount], asked: Filter, places: Places) -> tuple[FacetGroup, ...]:
    """Build the facets; the states stand in the order of a task's life, the others by count."""
    found = (
        FacetGroup("State", tuple(_state_rows(facets.state, asked, places))),
        FacetGroup("Queue", tuple(_facet_rows("queue", facets.queue, asked, places))),
        FacetGroup("Type", tuple(_facet_rows("type", facets.type, asked, places))),
        FacetGroup("Worker", tuple(_facet_rows("worker", facets.worker, asked, places))),
    )
    if not errors:
        return found
    rows = tuple(_error_rows(errors, asked, places))
    return (*found, FacetGroup("Error", rows, Link(f"all {len(errors)}", places.to("/errors"))))


def _error_rows(errors: Sequence[ErrorCount], asked: Filter, places: Places) -> list[FacetRow]:
    ordered = sorted(errors, key=lambda one: (-(one.failed or 0), one.group.fault))
    return [_error_row(one, asked, places) for one in ordered[:FACET_ROWS]]


def _error_row(one: ErrorCount, asked: Filter, places: Places) -> FacetRow:
    group = one.group
    row = _facet_row("fault", group.fault, group.type, one.failed or 0, asked, places)
    text = error_title(group)
    # Of a KeyError nothing is left but the place of its key.
    told = text if any(letter.isalpha() for letter in text) else ""
    row = replace(row, small=told, title=error_label(group))
    return row if one.failed is not None else replace(row, count="", empty=False)


def error_label(group: ErrorGroup) -> str:
    """Write an error in a line: its type, and its message without particulars."""
    text = error_title(group)
    return f"{group.type}: {text}" if text else group.type


def _state_rows(values: Sequence[FacetValue], asked: Filter, places: Places) -> list[FacetRow]:
    return state_rows({value.value or "": value.count for value in values}, asked, places)


def state_rows(found: Mapping[str, int], asked: Filter, places: Places) -> list[FacetRow]:
    """Build a row for every state in the order of a task's life; states nobody is in stay in place."""
    counts = dict(found)
    if "SENT" in counts:
        counts["PENDING"] = counts.get("PENDING", 0) + counts.pop("SENT")
    states = [*STATE_ORDER, *sorted(state for state in counts if state and state not in STATE_ORDER)]
    rows = []
    for state in states:
        face = task_face(state)
        word = face.word if face.word in STATE_BY_WORD else state
        rows.append(_facet_row("state", word, face.word, counts.get(state, 0), asked, places, face))
    return rows


def _facet_rows(name: str, values: Sequence[FacetValue], asked: Filter, places: Places) -> list[FacetRow]:
    known = sorted((value for value in values if value.value), key=lambda value: (-value.count, value.value))
    chosen = asked.value(name)
    kept = known[:FACET_ROWS] + [value for value in known[FACET_ROWS:] if value.value == chosen]
    label = _LABELS.get(name, str)
    return [_facet_row(name, value.value or "", label(value.value or ""), value.count, asked, places) for value in kept]


def _facet_row(
    name: str, value: str, label: str, count: int, asked: Filter, places: Places, face: Face | None = None
) -> FacetRow:
    chosen = asked.value(name) == value
    line = asked.with_value(name, "" if chosen else value)
    return FacetRow(label, places.to("/tasks", q=line) if line else places.to("/tasks"), words.count(count),
                    chosen, count == 0, face, asked.with_value(name, value), title=value)  # fmt: skip
