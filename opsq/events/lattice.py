"""The algebra under evidence: sets of marks and registers, joined so that order and repetition cannot matter.

Both are bounded by what is greatest, never by what came first.
"""

from __future__ import annotations

from collections.abc import Collection
from operator import itemgetter
from typing import Any, Final

import msgspec

from opsq.events.fields import ATTEMPT_STEP, canonical

ATTEMPTS_KEPT: Final = 16
_FIRST_DROPPING_CODE: Final = (ATTEMPTS_KEPT + 1) * ATTEMPT_STEP
_ENCODER: Final = msgspec.msgpack.Encoder()

Fields = dict[int | str, Any]
#: (kind code, at, clock, host, attempt or 0 when the event does not say, fields)
Mark = tuple[int, float, int, str, int, Fields]
#: (rank, at, clock, host, fields)
Bundle = tuple[int, float, int, str, Fields]

_code_of = itemgetter(0)


def mark_set(marks: list[Mark], limit: int) -> tuple[Mark, ...]:
    """The marks in order, each once, of each kind the ``limit`` greatest. Sorts ``marks`` in place."""
    if len(marks) < 2:
        return tuple(marks)
    if len(set(map(_code_of, marks))) == len(marks):
        # One of each kind, as in most lives: nothing can be there twice, and codes alone order them.
        marks.sort()
        return tuple(marks)
    unique: dict[tuple[int, float, int, str, int], Fields] = {}
    for mark in marks:
        identity = mark[:5]
        known = unique.get(identity)
        unique[identity] = mark[5] if known is None or known == mark[5] else _greatest_fields(known, mark[5])
    kept = [(*identity, unique[identity]) for identity in sorted(unique)]
    return tuple(kept) if len(kept) <= limit else _newest_per_kind(kept, limit)


def _newest_per_kind(ordered: list[Mark], limit: int) -> tuple[Mark, ...]:
    counts: dict[int, int] = {}
    kept = []
    for mark in reversed(ordered):
        counts[mark[0]] = counts.get(mark[0], 0) + 1
        if counts[mark[0]] <= limit:
            kept.append(mark)
    kept.reverse()
    return tuple(kept)


def _greatest_fields(one: Fields, other: Fields) -> Fields:
    """Two accounts of the same moment: per field the greater value, by its bytes, so that order cannot matter."""
    merged = dict(one)
    for code, value in other.items():
        if code not in merged or _ENCODER.encode(value) > _ENCODER.encode(merged[code]):
            merged[code] = value
    return canonical(merged)


def claim(bundles: list[Bundle]) -> tuple[Bundle, ...]:
    """The registers: every field is kept where its key is greatest, bundles that keep none disappear."""
    if len(bundles) < 2:
        return tuple(bundles)
    by_key: dict[tuple[int, float, int, str], Fields] = {}
    for bundle in bundles:
        key = bundle[:4]
        known = by_key.get(key)
        by_key[key] = bundle[4] if known is None or known == bundle[4] else _greatest_fields(known, bundle[4])
    dropped = _dropped_attempts(by_key.values())
    kept: list[Bundle] = []
    claimed: set[int | str] = set()
    for key in sorted(by_key, reverse=True):
        fields = by_key[key]
        won = fields.keys() - claimed if claimed else fields.keys()
        if dropped:
            won = {code for code in won if not 0 < _attempt_of_code(code) <= dropped}
        if not won:
            continue
        claimed |= won
        if len(won) < len(fields):
            fields = {code: value for code, value in fields.items() if code in won}
        kept.append((*key, fields))
    kept.reverse()
    return tuple(kept)


def _dropped_attempts(bundles: Collection[Fields]) -> int:
    """The latest attempt whose registers are dropped because there are too many later ones; 0 when none is."""
    # Codes are in order, so the last one of each bundle belongs to its latest attempt.
    for fields in bundles:
        if next(reversed(fields)) >= _FIRST_DROPPING_CODE:  # type: ignore[operator]
            break
    else:
        return 0
    named = {_attempt_of_code(code) for fields in bundles for code in fields} - {0}
    return sorted(named, reverse=True)[ATTEMPTS_KEPT] if len(named) > ATTEMPTS_KEPT else 0


def _attempt_of_code(code: int | str) -> int:
    return code // ATTEMPT_STEP if isinstance(code, int) else 0
