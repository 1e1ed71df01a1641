"""A search of tasks, as pages and commands hold it: the parsed line with the moment it was asked.

The grammar is ``grammar.py``, what a field may say ``grammar_fields.py``, how rows are found ``finder.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from opsq.events import grammar
from opsq.events.document import fits
from opsq.events.grammar import Every, Fault, Id, Named, Node, Not, Query, Text
from opsq.events.grammar_fields import STATE_WORDS
from opsq.events.rows import DIMENSIONS

__all__ = ["EVERYTHING", "Fault", "Search", "literal", "of", "parse"]


class Search(msgspec.Struct, frozen=True):
    """A filter of tasks. asked_at: epoch seconds, what times such as ``since:2h`` are counted back from."""

    query: Query = Query()
    asked_at: float = 0.0

    @property
    def root(self) -> Node:
        """What rows have to fit."""
        return self.query.root

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What could not be read and is left out, in the order of the line."""
        return self.query.faults

    @property
    def terms(self) -> tuple[Node, ...]:
        """The terms that must all hold."""
        return self.root.parts if isinstance(self.root, Every) else (self.root,)

    @property
    def by_names_alone(self) -> bool:
        """Does the filter only name states, types, queues and workers, so that counts are known without a look?"""
        return all(_dimension_of(term) for term in self.terms)

    def accepts(self, dimension: str, value: str | None) -> bool:
        """Do the terms about this dimension alone leave the value in?"""
        return all(_names(term, value) for term in self.terms if _dimension_of(term) == dimension)

    def dimensions(self) -> Iterator[str]:
        """The dimensions that a term is about."""
        return (name for name in DIMENSIONS if any(_dimension_of(term) == name for term in self.terms))


EVERYTHING = Search()


def _dimension_of(term: Node) -> str:
    inner = term.part if isinstance(term, Not) else term
    return inner.field if isinstance(inner, Named) else ""


def _names(term: Node, value: str | None) -> bool:
    if isinstance(term, Not):
        return not _names(term.part, value)
    return isinstance(term, Named) and any(fits(term.field, pattern, value) for pattern in term.values)


def of(
    *, state: str | None = None, type: str | None = None, queue: str | None = None, worker: str | None = None,
    id: str = "", text: str = "",
) -> Search:  # fmt: skip
    """A filter from single values, each a pattern or ``None`` for all."""
    given: Mapping[str, str | None] = {"state": state, "type": type, "queue": queue, "worker": worker}
    parts: list[Node] = [Named(name, _values(name, value)) for name, value in given.items() if value]
    if id:
        parts.append(Id("id", id))
    parts += [Text("", word) for word in text.lower().split()]
    return Search(Query(parts[0] if len(parts) == 1 else Every(tuple(parts))))


def literal(name: str) -> str:
    """Write a name as a pattern that only fits itself; letters with a meaning fit any letter."""
    return "".join("?" if letter in "*?[]," else letter for letter in name)


def _values(name: str, value: str) -> tuple[str, ...]:
    words = tuple(word for word in value.split(",") if word)
    if name != "state":
        return words
    return tuple(state for word in words for state in STATE_WORDS.get(word.lower(), (word.upper(),)))


def parse(line: str, now: float) -> Search:
    """Read a search line; what cannot be read is left out and named in ``faults``. now: epoch seconds."""
    return Search(grammar.parse(line), now)
