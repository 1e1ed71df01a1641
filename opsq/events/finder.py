"""Finding tasks: pages are read newest first and stop when they are full.

The one way to search of every store that has the search index; a store gives a ``Shelf``, one consistent look at its
rows, its segments and the **fresh** rows that no segment knows yet. A row is shown only after its document was
checked, so the index may lag and may guess and the page is still right.
What a page costs: the fresh rows, and of the segments only as many as it takes, newest first.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from typing import Final

from opsq.events import inverted
from opsq.events.document import Looked, matches
from opsq.events.grammar import Every, Node, When
from opsq.events.rows import MOST_COUNTED, Count, Found, TaskRow
from opsq.events.search_plan import (
    All,
    Any,
    Column,
    Complement,
    Perhaps,
    Plan,
    SegmentInfo,
    Shelf,
    Step,
    Terms,
    plan,
)

#: Rows a page looks at before it says that it did not look at all; a search that no index helps costs this much.
MOST_LOOKED: Final = 20_000
_FIRST_ROWS: Final = 64
_MOST_ROWS: Final = 512
_MOST_SEGMENTS: Final = 16
#: Rows checked between two looks at the clock while counting.
_COUNTED_ROWS: Final = 128


# -- one segment -----------------------------------------------------------------------------------------------------


class _Look:
    """A plan over one segment. ``run`` gives (positions that may fit, whether that is exact)."""

    def __init__(
        self, info: SegmentInfo, held: Mapping[tuple[int, int], bytes], keys: Callable[[], array[int]]
    ) -> None:
        self.info = info
        self.held = held
        self.keys = keys
        self.full = (1 << info.docs) - 1

    def run(self, step: Step) -> tuple[int, bool]:
        match step:
            case Terms(groups, exact, keys):
                bits = 0
                for group in groups:
                    bits |= self._all_terms(group)
                return bits | self._positions(keys), exact
            case Column(figure, table):
                column = self.held.get((self.info.id, inverted.column_term(figure)), b"")
                return inverted.column_bitmap(column, table), False
            case Complement(part):
                bits, exact = self.run(part)
                return (self.full & ~bits, True) if exact else (self.full, False)
            case All(parts):
                bits, exact = self.full, True
                for part in parts:
                    more, sure = self.run(part)
                    bits &= more
                    exact = exact and sure
                    if not bits:
                        return 0, True
                return bits, exact
            case Any(parts):
                bits, exact = 0, True
                for part in parts:
                    more, sure = self.run(part)
                    bits |= more
                    exact = exact and sure
                return bits, exact
            case Perhaps():
                return self.full, False

    def _all_terms(self, terms: Sequence[int]) -> int:
        found = []
        for term in terms:
            data = self.held.get((self.info.id, term))
            if data is None:
                return 0
            found.append(data)
        bits = self.full
        # The rarest first: most are short arrays, and what they leave is soon nothing.
        for data in sorted(found, key=len):
            bits &= inverted.bitmap(data, self.info.docs)
            if not bits:
                return 0
        return bits

    def _positions(self, keys: frozenset[int]) -> int:
        inside = [key for key in keys if self.info.low <= key <= self.info.high]
        bits = 0
        if inside:
            place = {key: position for position, key in enumerate(self.keys())}
            for key in inside:
                if key in place:
                    bits |= 1 << place[key]
        return bits

    def alive(self, step: Step) -> tuple[int, bool]:
        """Positions that may fit and are not dead."""
        bits, exact = self.run(step)
        if self.info.dead and bits:
            bits &= ~inverted.bitmap(self.info.dead, self.info.docs)
        return bits, exact

    def found(self, bits: int) -> list[int]:
        """The row keys of positions."""
        if not bits:
            return []
        keys = self.keys()
        if bits.bit_count() < _FEW:
            few: list[int] = []
            while bits:
                lowest = bits & -bits
                few.append(keys[lowest.bit_length() - 1])
                bits ^= lowest
            return few
        flags = f"{bits:b}".encode()[::-1].translate(_FLAGS)
        return list(compress(keys, flags))


#: So few positions are taken out one by one; more of them by a pass over all.
_FEW: Final = 64
_FLAGS: Final = bytes(code == 49 for code in range(256))


class _Source:
    """Row keys that may fit, newest first: fresh rows and segments, as far as they have been looked at."""

    def __init__(self, shelf: Shelf, plan: Plan, before: int | None) -> None:
        self.shelf = shelf
        self.plan = plan
        self.low = max(plan.low, shelf.floor())
        self.high = plan.high if before is None else min(plan.high, before)
        fresh = shelf.fresh(self.low, self.high, MOST_LOOKED + 1)
        self.behind = len(fresh) > MOST_LOOKED
        self.again = {key for key, again in fresh if again}
        self.pool = sorted(key for key, _ in fresh)
        inside = [one for one in shelf.segments() if one.high >= self.low and one.low < self.high]
        self.left = sorted(inside, key=lambda one: one.high)
        self.terms = plan.terms()
        self._batch = 1

    def looks(self) -> Iterable[_Look]:
        """The next segments, their terms read together; twice as many each time."""
        batch = [self.left.pop() for _ in range(min(self._batch, len(self.left)))]
        self._batch = min(self._batch * 2, _MOST_SEGMENTS)
        held = self.shelf.postings([one.id for one in batch], self.terms) if self.terms else {}
        for one in batch:
            yield _Look(one, held, lambda one=one: self.shelf.keys(one.id))  # type: ignore[misc]

    def within(self, look: _Look, bits: int) -> list[int]:
        """The row keys of positions, as far as they lie in the range and are not fresh."""
        keys = look.found(bits)
        if look.info.low < self.low or look.info.high >= self.high:
            keys = [key for key in keys if self.low <= key < self.high]
        return [key for key in keys if key not in self.again] if self.again else keys

    def take(self, most: int) -> list[int]:
        """The next keys, newest first; empty at the end."""
        while self.left and (not self.pool or self.left[-1].high >= self.pool[-1]):
            for look in self.looks():
                self.pool += self.within(look, look.alive(self.plan.step)[0])
            self.pool.sort()
        edge = self.left[-1].high if self.left else -1
        taken: list[int] = []
        while self.pool and len(taken) < most and self.pool[-1] > edge:
            taken.append(self.pool.pop())
        return taken


class _Known:
    """The few rows that can fit, when ids named them."""

    behind = False

    def __init__(self, plan: Plan, before: int | None) -> None:
        high = plan.high if before is None else min(plan.high, before)
        self.pool = sorted(key for key in plan.only or () if plan.low <= key < high)

    def take(self, most: int) -> list[int]:
        """The next keys, newest first."""
        taken, self.pool = self.pool[: -most - 1 : -1], self.pool[:-most]
        return taken


class _Every:
    """All rows of the range, newest first: when nothing but time is asked for."""

    behind = False

    def __init__(self, shelf: Shelf, plan: Plan, before: int | None) -> None:
        self.shelf = shelf
        self.low = plan.low
        self.high = plan.high if before is None else min(plan.high, before)

    def take(self, most: int) -> list[int]:
        """The next keys, newest first."""
        keys = self.shelf.newest(self.low, self.high, most)
        self.high = keys[-1] if keys else self.low
        return keys


def _only_time(root: Node) -> bool:
    return all(isinstance(part, When) for part in (root.parts if isinstance(root, Every) else (root,)))


def _source(shelf: Shelf, ready: Plan, before: int | None) -> _Source | _Known | _Every:
    if ready.only is not None:
        return _Known(ready, before)
    return _Every(shelf, ready, before) if _only_time(ready.root) else _Source(shelf, ready, before)


def find(shelf: Shelf, root: Node, now: float, *, before: int | None, limit: int, since: int = 0) -> Found:
    """The newest ``limit`` rows that fit and since ≤ key < before, newest first."""
    ready = plan(root, shelf, now)
    ready = ready._replace(low=max(ready.low, since))
    source = _source(shelf, ready, before)
    rows: list[TaskRow] = []
    looked, size = 0, max(_FIRST_ROWS, limit + 1)
    last: int | None = None
    while keys := source.take(min(size, MOST_LOOKED - looked)):
        for row in shelf.rows(keys):
            looked += 1
            if matches(root, Looked(row), now):
                if len(rows) == limit:
                    return Found(rows, rows[-1].key if rows else None, looked)
                rows.append(row)
        last = keys[-1]
        if looked >= MOST_LOOKED:
            return Found(rows, last, looked, complete=False)
        size = min(size * 2, _MOST_ROWS)
    return Found(rows, None, looked, complete=not source.behind)


def count(
    shelf: Shelf, root: Node, now: float, *, most: int = MOST_COUNTED, enough: Callable[[], bool] = lambda: False
) -> Count:
    """How many rows fit, up to ``most``. enough: asked between steps whether to stop with what is known."""
    ready = plan(root, shelf, now)
    if ready.only is not None or _only_time(root):
        return _count_rows(_source(shelf, ready, None), shelf, ready, most, enough)
    source = _Source(shelf, ready, None)
    pool, source.pool = source.pool, []
    total, unsure = 0, list(reversed(pool))
    while source.left and total <= most:
        for look in source.looks():
            bits, exact = look.alive(ready.step)
            inside = look.info.low >= source.low and look.info.high < source.high and not source.again
            if exact and inside:
                total += bits.bit_count()
            elif exact:
                total += len(source.within(look, bits))
            else:
                unsure += source.within(look, bits)
            if enough():
                return Count(min(total, most), exact=False)
    if total > most:
        return Count(most, exact=False)
    checked = _count_keys(unsure, shelf, ready, most - total, enough)
    return Count(total + checked.value, checked.exact and not source.behind)


def _count_keys(keys: list[int], shelf: Shelf, ready: Plan, most: int, enough: Callable[[], bool]) -> Count:
    total = 0
    for start in range(0, len(keys), _COUNTED_ROWS):
        chunk = keys[start : start + _COUNTED_ROWS]
        total += sum(matches(ready.root, Looked(row), ready.now) for row in shelf.rows(chunk))
        if total > most or (enough() and start + _COUNTED_ROWS < len(keys)):
            return Count(min(total, most), exact=False)
    return Count(total, exact=True)


def _count_rows(
    source: _Source | _Known | _Every, shelf: Shelf, ready: Plan, most: int, enough: Callable[[], bool]
) -> Count:
    total = 0
    while keys := source.take(_MOST_ROWS):
        if isinstance(source, _Every):
            total += len(keys)
        else:
            total += sum(matches(ready.root, Looked(row), ready.now) for row in shelf.rows(keys))
        if total > most or enough():
            return Count(min(total, most), exact=False)
    return Count(total, exact=True)
