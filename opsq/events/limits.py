"""How much a monitor keeps in memory of one cluster."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of what a cluster keeps in memory."""

    live_bytes: int = 256 * 1024 * 1024
    types: int = 5_000
    queues: int = 5_000
    workers: int = 5_000
    emitters: int = 10_000
    slices: int = 20_000
    errors: int = 2_000
    flows: int = 10_000
    offline_after_s: float = 60.0
