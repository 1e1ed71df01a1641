"""A search made ready for a store: a plan over bitmaps, and the few look-ups that shorten it.

A plan says of each position of a segment "no" or "perhaps"; ``finder`` runs it and checks the rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from opsq.events import inverted
from opsq.events.document import FIGURES, ID_LETTERS, edge_of, fits, is_uuid
from opsq.events.grammar import Either, Every, Id, Named, Node, Not, Number, Pair, Text, When
from opsq.events.rows import DIMENSIONS, TaskRow
from opsq.wire import states

#: More names than this are not looked up one by one: the rows are asked.
_MOST_NAMES: Final = 256
_MOST_IDS: Final = 2_000
LAST_KEY: Final = (1 << 63) - 1


class SegmentInfo(NamedTuple):
    """A segment as the store lists it. dead: bitmap of positions whose task is in a newer segment, by ``bitmap``."""

    id: int
    docs: int
    low: int
    high: int
    dead: bytes


class Shelf(Protocol):
    """One consistent look at a store. Thread: the one that opened it."""

    def names(self, dimension: str) -> Mapping[str | None, int | None]:
        """Every name of a dimension with its number."""
        ...

    def floor(self) -> int:
        """The key of the oldest row; 0 without rows."""
        ...

    def segments(self) -> list[SegmentInfo]:
        """All of them."""
        ...

    def fresh(self, low: int, high: int, limit: int) -> list[tuple[int, bool]]:
        """The newest row keys no segment knows in their present state; true for those an older segment knows."""
        ...

    def keys(self, segment: int) -> array[int]:
        """Row keys of a segment by position."""
        ...

    def postings(self, segments: Sequence[int], terms: Sequence[int]) -> Mapping[tuple[int, int], bytes]:
        """Positions by segment and term, as far as they exist."""
        ...

    def rows(self, keys: Sequence[int]) -> list[TaskRow]:
        """Rows by key, newest first; what is gone is left out."""
        ...

    def newest(self, low: int, high: int, limit: int) -> list[int]:
        """The greatest row keys with low ≤ key < high, greatest first."""
        ...

    def begins(self, prefix: str, limit: int) -> list[int]:
        """Keys of rows whose id begins so."""
        ...

    def workflow(self, root: str, limit: int) -> list[int]:
        """Keys of rows whose first task is this one."""
        ...


# -- plans -----------------------------------------------------------------------------------------------------------


class Terms(NamedTuple):
    """One of the groups, all of whose terms are there. keys: rows that fit whatever their terms say."""

    groups: tuple[tuple[int, ...], ...]
    exact: bool
    keys: frozenset[int] = frozenset()


class Column(NamedTuple):
    """A figure whose byte the table marks."""

    figure: int
    table: bytes


class All(NamedTuple):
    """Intersection; of nothing it is everything."""

    parts: tuple[Step, ...]


class Any(NamedTuple):
    """Union."""

    parts: tuple[Step, ...]


class Complement(NamedTuple):
    """What does not fit."""

    part: Step


class Perhaps(NamedTuple):
    """Everything, and the row has to say."""


Step = Terms | Column | All | Any | Complement | Perhaps


class Plan(NamedTuple):
    """A search made ready for one shelf. low ≤ key < high. only: the few rows that can fit, when they are known."""

    root: Node
    now: float
    step: Step
    low: int
    high: int
    only: frozenset[int] | None

    def terms(self) -> list[int]:
        """Every term that has to be read."""
        return sorted(set(_terms_of(self.step)))


def plan(root: Node, shelf: Shelf, now: float) -> Plan:
    """Make a search ready. now: epoch seconds."""
    low, high = 0, LAST_KEY
    only: frozenset[int] | None = None
    for part in root.parts if isinstance(root, Every) else (root,):
        if isinstance(part, When):
            edge = edge_of(part, now)
            low, high = (low, min(high, edge)) if part.until else (max(low, edge), high)
        elif isinstance(part, Id) and (part.field == "root" or (part.field == "id" and is_uuid(part.value))):
            keys = frozenset(_by_id(part, shelf))
            only = keys if only is None else only & keys
    if only is not None and len(only) >= _MOST_IDS:
        only = None
    return Plan(root, now, _step(root, shelf), low, high, only)


def _by_id(node: Id, shelf: Shelf) -> list[int]:
    if node.field == "id":
        return shelf.begins(node.value, _MOST_IDS)
    return shelf.workflow(node.value, _MOST_IDS)


def _step(node: Node, shelf: Shelf) -> Step:
    match node:
        case Every(parts):
            return All(tuple(_step(part, shelf) for part in parts))
        case Either(parts):
            return Any(tuple(_step(part, shelf) for part in parts))
        case Not(part):
            return Complement(_step(part, shelf))
        case Named(field, values):
            return _named(field, lambda name: any(fits(field, value, name) for value in values), shelf)
        case Text(field, text):
            return _text(field, text, shelf)
        case Pair(key, value):
            return Terms((tuple(inverted.pair_terms(key.lower(), value.lower())),), exact=False)
        case Number():
            return Column(FIGURES.index(node.field), inverted.column_table(node))
        case Id("id", value):
            return _id(value, shelf)
        case Id("fault", value):
            return _fault(value, shelf)
        case Id(_, value):
            keys = shelf.workflow(value, _MOST_IDS)
            return Perhaps() if len(keys) >= _MOST_IDS else Terms((), exact=False, keys=frozenset(keys))
        case _:
            return Perhaps()


def _named(field: str, accepts: Callable[[str | None], bool], shelf: Shelf) -> Step:
    dimension = DIMENSIONS.index(field)
    known = shelf.names(field)
    chosen = [number for name, number in known.items() if accepts(name)]
    if 2 * len(chosen) > len(known):
        left_out = [number for name, number in known.items() if not accepts(name)]
        return Complement(_values(dimension, left_out))
    return _values(dimension, chosen)


def _values(dimension: int, numbers: Sequence[int | None]) -> Step:
    if len(numbers) > _MOST_NAMES:
        return Perhaps()
    return Terms(tuple((inverted.dimension_term(dimension, number),) for number in numbers), exact=True)


def _text(field: str, text: str, shelf: Shelf) -> Step:
    terms = tuple(inverted.text_terms(text))
    if not terms:
        return Perhaps()
    # Three bytes are one term, and whoever has the term has the text.
    inside = Terms((terms,), exact=not field and len(terms) == 1 and len(text.encode()) == 3)
    if field:
        return inside
    names = [_named_like(name, text, shelf) for name in DIMENSIONS]
    keys = frozenset(shelf.begins(text, _MOST_IDS)) if _like_an_id(text) else frozenset()
    if len(keys) >= _MOST_IDS:
        return Perhaps()
    return Any((inside._replace(keys=keys), *(step for step in names if step != Terms((), exact=True))))


def _named_like(field: str, text: str, shelf: Shelf) -> Step:
    numbers = [number for name, number in shelf.names(field).items() if name is not None and text in name.lower()]
    return _values(DIMENSIONS.index(field), numbers)


def _id(prefix: str, shelf: Shelf) -> Step:
    """Ids made by machines are found by their number, all others by their text, which is indexed for them."""
    terms = tuple(inverted.text_terms(prefix.lower()))
    keys = shelf.begins(prefix, _MOST_IDS)
    if not terms or len(keys) >= _MOST_IDS:
        return Perhaps()
    return Terms((terms,), exact=False, keys=frozenset(keys))


def _fault(fault: str, shelf: Shelf) -> Step:
    known = Terms(((inverted.fault_term(fault),),), exact=False)
    # Rows of segments from before errors were indexed may fail by any.
    unknown = Complement(Terms(((inverted.ANY_FAULT,),), exact=True))
    return All((_named("state", lambda state: state == states.FAILURE, shelf), Any((known, unknown))))


def _like_an_id(text: str) -> bool:
    return len(text) >= ID_LETTERS and is_uuid(text.replace("-", "").ljust(32, "0"))


def _terms_of(step: Step) -> Iterable[int]:
    match step:
        case Terms(groups):
            return (term for group in groups for term in group)
        case Column(figure):
            return (inverted.column_term(figure),)
        case All(parts) | Any(parts):
            return (term for part in parts for term in _terms_of(part))
        case Complement(part):
            return _terms_of(part)
    return ()
