"""Where a schedule is kept, and who may write it: one leader at a time, by a lease with a number.

The number (token) grows with every new leader, and every write names it: a leader that was away too long, frozen or
cut off, cannot write over what its successor has done. Source: fencing tokens, M. Kleppmann, "How to do distributed
locking".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Protocol, cast
from urllib.parse import quote

from msgspec import Struct

from opsq import plugins
from opsq.errors import ConfigError
from opsq.masking import mask_url
from opsq.settings import OPTIONS, Settings

IDENTITY: Final = "identity"
"""The row that names the schedule; part of every tick's id."""

STORES: Final[Mapping[str, str]] = {
    "sqlite": "opsq.core.schedules.store_sqlite:open_sqlite",
    "redis": "opsq.core.schedules.store_redis:open_redis",
    "rediss": "opsq.core.schedules.store_redis:open_redis",
    "postgresql": "opsq.core.schedules.store_postgres:open_postgres",
    "postgres": "opsq.core.schedules.store_postgres:open_postgres",
}
"""By the scheme of the URL; other packages add theirs as entry points ``opsq.beat_stores``."""
GROUP: Final = "opsq.beat_stores"


class Leader(Struct, frozen=True):
    """Who leads. holder: node name and a random part. left_s: seconds that its lease still has."""

    holder: str
    token: int
    left_s: float


class ScheduleStore(Protocol):
    """Rows of bytes by name, and a lease. Thread: any. Every method raises StoreUnavailable."""

    def acquire(self, holder: str, ttl_s: float) -> int | None:
        """Lead from now on; the new token, or None while somebody else leads."""
        ...

    def renew(self, token: int, ttl_s: float) -> bool:
        """Keep leading; false when another leads, or the lease has ended."""
        ...

    def release(self, token: int) -> None:
        """Lead no more, so that another may at once."""
        ...

    def leader(self) -> Leader | None:
        """Who leads now."""
        ...

    def read(self) -> dict[str, bytes]:
        """All rows."""
        ...

    def write(self, token: int, changes: Mapping[str, bytes | None]) -> bool:
        """Write rows, None deletes, all or none; false when ``token`` does not lead any more."""
        ...

    def close(self) -> None:
        """Let go. Safe to call twice."""
        ...


def store_url(settings: Settings) -> str:
    """Where the settings keep the schedule, see ``beat_store_url``."""
    if settings.beat_store_url:
        return settings.beat_store_url
    if settings.beat_schedule_filename != OPTIONS["beat_schedule_filename"].default:
        return "sqlite:///" + quote(os.path.abspath(settings.beat_schedule_filename))
    broker = settings.resolved_broker_url("write")
    first = broker if isinstance(broker, str) else next(iter(broker), "")
    if first.partition("://")[0] in ("redis", "rediss"):
        return first
    return "sqlite:///" + quote(os.path.abspath(os.path.join(settings.data_dir, "beat.db")))


def open_store(settings: Settings) -> ScheduleStore:
    """Open the store that the settings mean; it connects at first use. Raises: ConfigError."""
    url = store_url(settings)
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ConfigError(f"beat_store_url: expected a URL such as redis://localhost, got {mask_url(url)!r}")
    opener = plugins.choose(GROUP, scheme, STORES, origin="beat_store_url")
    if not callable(opener):
        raise ConfigError(f"beat store {scheme!r}: expected a function (url, settings), got {opener!r}")
    return cast(ScheduleStore, opener(url, settings))
