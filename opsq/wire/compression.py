"""Compression of bodies: kombu's names and MIME types, with bounded decompression.

Source: Celery protocol, section "Serializers, compression, accept list". Despite its name ``gzip``
is a bare zlib stream; both forms are read.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from opsq.errors import ConfigError, MalformedMessage
from opsq.wire.limits import DEFAULT_LIMITS, Limits

try:
    import brotli
except ImportError:
    brotli = None
try:
    import zstandard
except ImportError:
    zstandard = None  # type: ignore[assignment]

_ZLIB_OR_GZIP = 47
_LZMA_MEMORY_BYTES = 128 * 1024 * 1024
_ZSTD_WINDOW_BYTES = 128 * 1024 * 1024
_ZSTD_PIECE_BYTES = 512
_BROTLI_STEP_BYTES = 1024 * 1024


class Compressor(Struct, frozen=True):
    """One way to make a body smaller.

    expand: takes data and the largest size wanted; returns at most one byte more than that, and
    whether the stream was complete and nothing followed it.
    """

    mime: str
    names: tuple[str, ...]
    shrink: Callable[[bytes], bytes]
    expand: Callable[[bytes, int], tuple[bytes, bool]]
    extra: str = ""
    available: bool = True


def _expand_zlib(data: bytes, limit_bytes: int) -> tuple[bytes, bool]:
    stream = zlib.decompressobj(_ZLIB_OR_GZIP)
    out = stream.decompress(data, limit_bytes + 1)
    return out, stream.eof and not stream.unused_data


def _expand_bz2(data: bytes, limit_bytes: int) -> tuple[bytes, bool]:
    stream = bz2.BZ2Decompressor()
    out = stream.decompress(data, limit_bytes + 1)
    return out, stream.eof and not stream.unused_data


def _expand_lzma(data: bytes, limit_bytes: int) -> tuple[bytes, bool]:
    stream = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES)
    out = stream.decompress(data, limit_bytes + 1)
    return out, stream.eof and not stream.unused_data


def _shrink_brotli(data: bytes) -> bytes:
    return bytes(brotli.compress(data))


def _expand_brotli(data: bytes, limit_bytes: int) -> tuple[bytes, bool]:
    stream = brotli.Decompressor()
    parts = [stream.process(data, output_buffer_limit=min(limit_bytes + 1, _BROTLI_STEP_BYTES))]
    size = len(parts[0])
    while size <= limit_bytes and not stream.is_finished() and not stream.can_accept_more_data():
        parts.append(stream.process(b"", output_buffer_limit=_BROTLI_STEP_BYTES))
        size += len(parts[-1])
    return b"".join(parts), stream.is_finished()


def _shrink_zstd(data: bytes) -> bytes:
    return bytes(zstandard.ZstdCompressor().compress(data))


def _expand_zstd(data: bytes, limit_bytes: int) -> tuple[bytes, bool]:
    # The library cannot bound the output of one call; a piece this small expands to 16 MiB at most.
    stream = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()
    parts: list[bytes] = []
    size = 0
    for start in range(0, len(data), _ZSTD_PIECE_BYTES):
        if stream.eof:
            return b"".join(parts), False
        parts.append(stream.decompress(data[start : start + _ZSTD_PIECE_BYTES]))
        size += len(parts[-1])
        if size > limit_bytes:
            break
    return b"".join(parts), bool(stream.eof) and not stream.unused_data


def _engine_errors() -> tuple[type[Exception], ...]:
    errors: list[Any] = [zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError]
    if brotli is not None:
        errors.append(brotli.error)
    if zstandard is not None:
        errors.append(zstandard.ZstdError)
    return tuple(errors)


_ERRORS = _engine_errors()

COMPRESSORS: tuple[Compressor, ...] = (
    Compressor("application/x-gzip", ("gzip", "zlib"), zlib.compress, _expand_zlib),
    Compressor("application/x-bz2", ("bzip2", "bzip"), bz2.compress, _expand_bz2),
    Compressor("application/x-lzma", ("lzma", "xz"), lzma.compress, _expand_lzma),
    Compressor("application/x-brotli", ("brotli",), _shrink_brotli, _expand_brotli, "brotli", brotli is not None),
    Compressor("application/zstd", ("zstd", "zstandard"), _shrink_zstd, _expand_zstd, "zstd", zstandard is not None),
)


def by_name(compressors: Iterable[Compressor]) -> Mapping[str, Compressor]:
    """A table of compressions by name and by MIME type; a later one replaces an earlier one."""
    return MappingProxyType({name: engine for engine in compressors for name in (*engine.names, engine.mime)})


COMPRESSIONS: Mapping[str, Compressor] = by_name(COMPRESSORS)
"""The compressions that opsq ships, by name and MIME type."""


def find_compressor(name: str, table: Mapping[str, Compressor] = COMPRESSIONS) -> Compressor:
    """Look up a compression by name or MIME type.

    Raises: ConfigError when it is unknown or its library is not installed.
    """
    engine = table.get(name)
    if engine is None:
        names = sorted({name for each in table.values() for name in each.names})
        raise ConfigError(f"unknown compression {name!r}, expected one of {', '.join(names)}")
    if not engine.available:
        raise ConfigError(f'compression {name!r} needs a library to be installed: pip install "opsq[{engine.extra}]"')
    return engine


def compress(data: bytes, name: str, table: Mapping[str, Compressor] = COMPRESSIONS) -> tuple[bytes, str]:
    """Compress ``data``; returns it with the MIME type for the header ``compression``.

    Raises: ConfigError for a compression that is unknown or not installed.
    """
    engine = find_compressor(name, table)
    return engine.shrink(data), engine.mime


def decompress(
    data: bytes, mime: str, limits: Limits = DEFAULT_LIMITS, table: Mapping[str, Compressor] = COMPRESSIONS
) -> bytes:
    """Undo ``compress``, never producing more than ``limits.max_decompressed_bytes``.

    Raises: MalformedMessage.
    """
    try:
        engine = find_compressor(mime, table)
    except ConfigError as error:
        raise MalformedMessage(str(error)) from None
    limit_bytes = limits.max_decompressed_bytes
    try:
        out, complete = engine.expand(data, limit_bytes)
    except _ERRORS as error:
        raise MalformedMessage(f"body is not valid {engine.mime}: {error}") from None
    if len(out) > limit_bytes:
        raise MalformedMessage(f"body decompresses to more than {limit_bytes} bytes (message_max_decompressed_bytes)")
    if not complete:
        raise MalformedMessage(f"body is not valid {engine.mime}: the stream is cut short or followed by other bytes")
    return out
