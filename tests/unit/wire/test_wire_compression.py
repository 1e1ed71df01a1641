"""Compression: round trips, bounded expansion, and clear refusals."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.errors import ConfigError, MalformedMessage
from opsq.wire.compression import COMPRESSORS, Compressor, by_name, compress, decompress
from opsq.wire.limits import MIB, Limits

NAMES = [name for engine in COMPRESSORS for name in engine.names]
MIMES = [engine.mime for engine in COMPRESSORS]
BOMB_BYTES = 32 * MIB


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(max_size=300))
def test_round_trip(name: str, data: bytes) -> None:
    small, mime = compress(data, name)
    assert decompress(small, mime) == data


@pytest.mark.parametrize("name", NAMES)
def test_large_round_trip(name: str) -> None:
    data = bytes(range(256)) * 8000
    assert decompress(*compress(data, name)) == data


def test_names_are_kombus() -> None:
    assert compress(b"x", "gzip")[1] == compress(b"x", "zlib")[1] == "application/x-gzip"
    assert zlib.decompress(compress(b"x", "gzip")[0]) == b"x"
    assert bz2.decompress(compress(b"x", "bzip2")[0]) == b"x"
    assert lzma.decompress(compress(b"x", "xz")[0]) == b"x"


def test_real_gzip_is_read_too() -> None:
    assert decompress(gzip.compress(b"hello"), "application/x-gzip") == b"hello"


@pytest.mark.parametrize("mime", MIMES)
def test_a_bomb_is_refused_in_bounded_memory(mime: str) -> None:
    small, _mime = compress(bytes(BOMB_BYTES), mime)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage) as caught:
            decompress(small, mime, Limits(max_decompressed_bytes=100_000))
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "more than 100000 bytes" in str(caught.value)
    assert peak < BOMB_BYTES


@pytest.mark.parametrize("mime", MIMES)
def test_exactly_the_limit_is_taken(mime: str) -> None:
    data = b"ab" * 500
    assert decompress(compress(data, mime)[0], mime, Limits(max_decompressed_bytes=1000)) == data
    with pytest.raises(MalformedMessage):
        decompress(compress(data, mime)[0], mime, Limits(max_decompressed_bytes=999))


@pytest.mark.parametrize("mime", MIMES)
def test_cut_short_or_followed_by_more(mime: str) -> None:
    small, _mime = compress(b"hello world, hello world" * 20, mime)
    for broken in (small[:-2], small[: len(small) // 2], small + b"more", b""):
        with pytest.raises(MalformedMessage):
            decompress(broken, mime)


@pytest.mark.parametrize("mime", MIMES)
@given(data=st.binary(max_size=100))
def test_arbitrary_bytes_raise_nothing_else(mime: str, data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        decompress(data, mime)


def test_unknown_names() -> None:
    with pytest.raises(ConfigError) as caught:
        compress(b"", "snappy")
    assert "zstd" in str(caught.value)
    with pytest.raises(MalformedMessage):
        decompress(b"", "application/x-snappy")


def test_a_missing_library_names_the_extra() -> None:
    gone = Compressor("application/zstd", ("zstd",), bytes, lambda data, limit: (data, True), "zstd", available=False)
    table = by_name([gone])
    with pytest.raises(ConfigError) as caught:
        compress(b"", "zstd", table)
    assert 'pip install "opsq[zstd]"' in str(caught.value)
    with pytest.raises(MalformedMessage) as refused:
        decompress(b"", "application/zstd", table=table)
    assert 'pip install "opsq[zstd]"' in str(refused.value)
