"""The search line as the page shows it: finished terms as chips, free words as text, the fault with its place.

What a line *means* is ``events.search``'s business; this only takes it apart and puts it together again. A term
that cannot be read stays text and is named; the others hold, so that a typing error never shows everything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.search import EVERYTHING, Fault, Search
from opsq.events.search import parse as parse_search
from opsq.web.view_common import quoted

_TOKEN: Final = re.compile(r'-?(?:[A-Za-z_]+:)?(?:"(?:[^"\\]|\\.)*"?|\S+)|-?[A-Za-z_]+:(?=\s|$)')
_TERM: Final = re.compile(r"(?P<name>-?[A-Za-z_]+):(?P<value>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Term:
    """One finished term, such as ``-type:shop.*``. name: with its minus. value: as it was written, without quotes."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}:{quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class Filter:
    """A search line, taken apart. text: what is not a finished term. search: what it means."""

    source: str = ""
    terms: tuple[Term, ...] = ()
    text: str = ""
    search: Search = EVERYTHING

    @property
    def fault(self) -> Fault | None:
        """The first thing that is wrong, if anything is."""
        return self.search.faults[0] if self.search.faults else None

    def value(self, name: str) -> str:
        """Give the value asked for a field, empty when none is."""
        return next((term.value for term in self.terms if term.name == name), "")

    def without(self, dropped: Term) -> str:
        """Write the line without one term."""
        return self._line([term for term in self.terms if term != dropped])

    def with_value(self, name: str, value: str) -> str:
        """Write the line with one field set, or freed when ``value`` is empty."""
        kept = [term for term in self.terms if term.name != name]
        return self._line([*kept, Term(name, value)] if value else kept)

    def _line(self, terms: Sequence[Term]) -> str:
        return " ".join([*(str(term) for term in terms), *([self.text] if self.text else [])])


def parse(line: str, now: float) -> Filter:
    """Take a search line apart. now: epoch seconds, for terms such as ``since:2h``. Never raises."""
    search = parse_search(line, now)
    wrong = [range(fault.position, fault.position + max(1, fault.length)) for fault in search.faults]
    terms: list[Term] = []
    text: list[str] = []
    for match in _TOKEN.finditer(line):
        term = _TERM.fullmatch(match.group())
        if term is None or match.group().startswith('"') or any(match.start() in place for place in wrong):
            text.append(match.group())
        else:
            terms.append(Term(term["name"].lower(), _unquoted(term["value"])))
    return Filter(line, tuple(terms), " ".join(text), search)


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    return re.sub(r"\\(.)", r"\1", value[1:].removesuffix('"'))
