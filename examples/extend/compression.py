"""A compression: zlib with a dictionary of what our messages always contain, so that small bodies shrink as well.

extra_compressions = ["examples.extend.compression:PRIMED"]
task_compression = "primed"
"""

from __future__ import annotations

import zlib

from opsq.wire.compression import Compressor

DICTIONARY = (
    b'"customer": "order": "lines": [{"article": "amount": "price": '
    b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
)
"""Both sides must have the same one: with another, give the compression another name and MIME type."""


def shrink(data: bytes) -> bytes:
    """Compress."""
    engine = zlib.compressobj(9, zdict=DICTIONARY)
    return engine.compress(data) + engine.flush()


def expand(data: bytes, limit_bytes: int) -> tuple[bytes, bool]:
    """Decompress, to one byte more than ``limit_bytes`` at most, and say whether it was whole.

    The bound is what protects the worker from a few bytes that expand to gigabytes.
    """
    engine = zlib.decompressobj(zdict=DICTIONARY)
    out = engine.decompress(data, limit_bytes + 1)
    return out, engine.eof and not engine.unused_data


PRIMED = Compressor("application/x-primed", ("primed",), shrink, expand)
