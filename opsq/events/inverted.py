"""The search index: which tasks of a batch have a term, as bitmaps. Bytes in, bytes out; no store, no thread.

History is indexed in **segments** of up to ``SEGMENT_DOCS`` tasks that have come to rest. A segment holds

* for every **term** the positions of the tasks that have it: a sorted array of 16-bit numbers, or a bitmap where
  that is shorter. Terms are the three-byte pieces of words, whole words (hashed to 24 bits), the error that a task
  failed by, and the values of the four dimensions. Punctuation is not indexed: what stands between words is checked
  on the row itself.
* for every **figure** a column of one byte a task, on a logarithmic scale of eight steps per doubling.

Terms are packed in blocks of about 16 kB in the order of their number, so that reading one costs one small row and a
segment costs hundreds of rows, not tens of thousands. A segment never changes: a task that changes later is indexed
again in a newer one, and its old position is marked dead.
Source: the trigram indexes of code search (Cox 2012) and the column stores' bitmap indexes; built here because a
database's own full-text index is either rewritten with every change of a row or cannot be read newest first.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import chain
from math import log2
from typing import Final, NamedTuple, TypeVar
from zlib import crc32

import msgspec

from opsq.events.document import FIGURES, Document, is_uuid
from opsq.events.grammar import Number

#: Positions fit in 16 bits and a bitmap in one page.
SEGMENT_DOCS: Final = 32_768
SMALL_DOCS: Final = 2_048
BLOCK_BYTES: Final = 16_384
_WORD_SPACE: Final = 1 << 24
_DIMENSION_SPACE: Final = 2 << 24
_COLUMN_SPACE: Final = 8 << 24
_LOW_24: Final = _WORD_SPACE - 1
_WORDS: Final = re.compile(r"\w+")
#: Text beyond this is found only as far as here; one result of a megabyte must not fill a segment.
_LONGEST_TEXT: Final = 4_096
_ENCODER: Final = msgspec.msgpack.Encoder()
Block = tuple[list[int], list[bytes]]
T = TypeVar("T")
_BLOCKS: Final[msgspec.msgpack.Decoder[Block]] = msgspec.msgpack.Decoder(Block)


class Segment(NamedTuple):
    """A built segment. keys: row keys by position. blocks: first term of each and its bytes."""

    keys: array[int]
    blocks: list[tuple[int, bytes]]

    @property
    def low(self) -> int:
        """The smallest row key."""
        return min(self.keys)

    @property
    def high(self) -> int:
        """The greatest row key."""
        return max(self.keys)


def dimension_term(dimension: int, number: int | None) -> int:
    """The term of a dimension's value. number: of the name in the store, ``None`` for unknown."""
    return _DIMENSION_SPACE + (dimension << 24) + (number or 0)


def column_term(figure: int) -> int:
    """The term under which a figure's column is kept."""
    return _COLUMN_SPACE + figure


def word_term(word: str) -> int:
    """The term of a whole word."""
    return _WORD_SPACE | (crc32(word.encode("utf-8", "surrogatepass")) & _LOW_24)


def piece_terms(word: str) -> set[int]:
    """The terms of the three-byte pieces of a word."""
    data = word.encode("utf-8", "surrogatepass")
    return {one << 16 | two << 8 | three for one, two, three in zip(data, data[1:], data[2:], strict=False)}


def fault_term(fault: str) -> int:
    """The term of the error that a task failed by. No word has a colon, so none is taken for it."""
    return word_term(f"fault:{fault}")


#: Every task has it whose error is indexed: segments of earlier versions know none, and their rows have to say.
ANY_FAULT: Final = fault_term("")


def text_terms(text: str) -> set[int]:
    """Terms that every row with this text has; empty when the text is too short to have any.

    A word in the middle of the text is whole; the first and the last may be part of a longer one.
    """
    terms: set[int] = set()
    for found in _WORDS.finditer(text):
        if found.start() > 0 and found.end() < len(text):
            terms.add(word_term(found[0]))
        else:
            terms |= piece_terms(found[0])
    return terms


def pair_terms(key: str, value: str) -> set[int]:
    """Terms that every row with this keyword argument has: whole words all."""
    return {word_term(word) for word in _WORDS.findall(f"{key} {value}")}


def code_of(value: float | None) -> int:
    """A figure as one byte: 0 unknown, 1 up to a thousandth, then eight steps per doubling."""
    if value is None:
        return 0
    if value < 0.001:
        return 1
    return max(1, min(255, int(8 * log2(value * 1024)) + 2))


def scaled(figure: str, value: float | None) -> float | None:
    """A figure in the unit its column is made for: memory in megabytes, all others as they are."""
    return value / 1e6 if value is not None and figure == "memory" else value


def column_table(number: Number) -> bytes:
    """For every byte of a column ``1`` when a task with it may fit, else ``0``."""
    spread = 0.05 if number.low == number.high and number.field != "retries" else 0.0
    low = None if number.low is None else number.low * (1 - spread)
    high = None if number.high is None else number.high * (1 + spread)
    first = 1 if low is None else code_of(scaled(number.field, low))
    last = 255 if high is None else code_of(scaled(number.field, high))
    return bytes(49 if first <= code <= last else 48 for code in range(256))


class Builder:
    """Collects documents of one segment; what terms their words have is looked at once a word. Thread: one."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._keys: array[int] = array("Q")
        self._words: dict[str, array[int]] = {}
        self._faults: dict[int, array[int]] = {}
        self._numbers: dict[tuple[int | None, ...], array[int]] = {}
        self._columns = [bytearray() for _ in FIGURES]

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: int, id: str, numbers: Sequence[int | None], document: Document) -> None:
        """Take one task in. numbers: of its state, type, queue and worker. At most ``SEGMENT_DOCS`` times."""
        position = len(self._keys)
        self._keys.append(key)
        _note(self._numbers, tuple(numbers), position)
        words = self._words
        text = "\n".join([each[:_LONGEST_TEXT] for each in document.texts])
        for word in {*_WORDS.findall(text)}:
            positions = words.get(word)
            if positions is None:
                words[word] = array("H", (position,))
            else:
                positions.append(position)
        if not is_uuid(id):
            for word in _WORDS.findall(id.lower()):
                _note(words, word, position)
        if document.fault is not None:
            _note(self._faults, fault_term(document.fault), position)
            _note(self._faults, ANY_FAULT, position)
        for column, name, value in zip(self._columns, FIGURES, document.figures, strict=True):
            column.append(0 if value is None else code_of(scaled(name, value)))

    def _terms(self) -> dict[int, bytes]:
        """Every term with the positions of the words and names that have it."""
        parts: dict[int, list[array[int]]] = {}
        for numbers, positions in self._numbers.items():
            for dimension, number in enumerate(numbers):
                parts.setdefault(dimension_term(dimension, number), []).append(positions)
        for word, positions in self._words.items():
            parts.setdefault(word_term(word), []).append(positions)
            for term in piece_terms(word):
                parts.setdefault(term, []).append(positions)
        for term, positions in self._faults.items():
            parts.setdefault(term, []).append(positions)
        size = (len(self._keys) + 7) // 8
        return {
            term: packed(held[0] if len(held) == 1 else array("H", sorted({*chain.from_iterable(held)})), size)
            for term, held in parts.items()
        }

    def finish(self) -> Segment:
        """The segment of what was added, and start the next."""
        postings = self._terms()
        for figure, column in enumerate(self._columns):
            postings[column_term(figure)] = bytes(reversed(column))
        segment = Segment(self._keys, list(blocks_of(postings)))
        self._clear()
        return segment


def _note(of: dict[T, array[int]], what: T, position: int) -> None:
    """Note that the newest task has it; a second time changes nothing."""
    positions = of.setdefault(what, array("H"))
    if not positions or positions[-1] != position:
        positions.append(position)


def packed(positions: array[int], size: int) -> bytes:
    """Positions as they are stored: an array, or a bitmap of ``size`` bytes where that is not longer."""
    if len(positions) * 2 < size:
        return positions.tobytes()
    bits = bytearray(size)
    for position in positions:
        bits[position >> 3] |= 1 << (position & 7)
    return bytes(bits)


def bitmap(data: bytes, docs: int) -> int:
    """The bitmap of stored positions as a number; bit n is position n."""
    size = (docs + 7) // 8
    if len(data) == size:
        return int.from_bytes(data, "little")
    bits = bytearray(size)
    for position in array("H", data):
        bits[position >> 3] |= 1 << (position & 7)
    return int.from_bytes(bits, "little")


def column_bitmap(column: bytes, table: bytes) -> int:
    """The positions whose byte the table marks. Columns are stored last position first, as numbers are read."""
    return int(column.translate(table) or b"0", 2)


def blocks_of(postings: dict[int, bytes]) -> Iterable[tuple[int, bytes]]:
    """Postings in blocks, in the order of their terms."""
    terms: list[int] = []
    held: list[bytes] = []
    size = 0
    for term in sorted(postings):
        data = postings[term]
        if terms and size + len(data) > BLOCK_BYTES:
            yield terms[0], _ENCODER.encode((terms, held))
            terms, held, size = [], [], 0
        terms.append(term)
        held.append(data)
        size += len(data) + 8
    if terms:
        yield terms[0], _ENCODER.encode((terms, held))


def read_block(data: bytes) -> Block:
    """Terms and positions of a block, in the same order."""
    return _BLOCKS.decode(data)


def in_block(block: Block, term: int) -> bytes | None:
    """The positions of a term, ``None`` when the block has none."""
    terms, held = block
    place = bisect_left(terms, term)
    return held[place] if place < len(terms) and terms[place] == term else None


def joined(parts: Sequence[tuple[array[int], Iterable[bytes], int]]) -> Segment:
    """One segment of several small ones. parts: keys, blocks and dead positions (a bitmap) of each; the dead leave."""
    keys: array[int] = array("Q")
    merged: dict[int, array[int]] = {}
    columns: dict[int, bytearray] = {}
    for own_keys, blocks, dead in parts:
        moved: list[int] = []
        for position, key in enumerate(own_keys):
            gone = dead >> position & 1
            moved.append(-1 if gone else len(keys))
            if not gone:
                keys.append(key)
        for data in blocks:
            for term, held in zip(*read_block(data), strict=True):
                if term >= _COLUMN_SPACE:
                    column = columns.setdefault(term, bytearray())
                    column += bytes(code for position, code in enumerate(reversed(held)) if moved[position] >= 0)
                    continue
                positions = merged.setdefault(term, array("H"))
                positions.extend(
                    there for there in map(moved.__getitem__, positions_in(held, len(own_keys))) if there >= 0
                )
    size = (len(keys) + 7) // 8
    postings = {term: packed(positions, size) for term, positions in merged.items() if positions}
    postings |= {term: bytes(reversed(column)) for term, column in columns.items()}
    return Segment(keys, list(blocks_of(postings)))


def positions_in(data: bytes, docs: int) -> Iterable[int]:
    """Stored positions, one by one."""
    if len(data) != (docs + 7) // 8:
        return array("H", data)
    return [position for position, bit in enumerate(f"{int.from_bytes(data, 'little'):b}"[::-1]) if bit == "1"]
