"""An opened broker file with its parts, shared by the channels of one connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from opsq.broker.sqlite.catalog import Catalog
from opsq.broker.sqlite.database import Database, DatabaseOptions
from opsq.broker.sqlite.doorbell import Ringer
from opsq.broker.sqlite.lease import Lease
from opsq.broker.sqlite.process import this_process
from opsq.broker.sqlite.reaper import Reaper
from opsq.broker.sqlite.store import Store
from opsq.clock import Clock, SystemClock
from opsq.errors import ConfigError

DEFAULT_LEASE_S = 30.0
DEFAULT_POLL_S = 0.25
_DEFAULTS = DatabaseOptions()


class SqliteBroker:
    """options: ``synchronous``, ``busy_timeout_s``, ``lease_seconds``, ``poll_interval_s``.

    Thread: any, one at a time; after a fork the child opens its own.
    Raises: as ``Database``.
    """

    def __init__(self, path: str, options: Mapping[str, Any] | None = None, clock: Clock | None = None) -> None:
        options = options or {}
        self.clock: Clock = clock or SystemClock()
        self.lease_s = float(options.get("lease_seconds") or DEFAULT_LEASE_S)
        self.poll_s = float(options.get("poll_interval_s") or DEFAULT_POLL_S)
        self.process = this_process()
        self.database = Database(
            path,
            DatabaseOptions(
                synchronous=_synchronous(options.get("synchronous")),
                busy_timeout_s=float(options.get("busy_timeout_s") or _DEFAULTS.busy_timeout_s),
            ),
        )
        self.ringer = Ringer(path)
        self.catalog = Catalog(self.database, self.clock)
        self.store = Store(self.database, self.catalog, self.ringer, self.clock)
        self.reaper = Reaper(self.database, self.catalog, self.ringer, self.clock, self.process)
        self._leases = 0

    @property
    def path(self) -> str:
        """The file, absolute."""
        return self.database.path

    def lease(self) -> Lease:
        """Register a consumer and return its hold."""
        self._leases += 1
        return Lease(
            self.database,
            self.catalog,
            self.ringer,
            self.clock,
            process=self.process,
            seconds=self.lease_s,
            name=f"take_{self._leases}",
        )

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self.ringer.close()
        self.database.close()


def path_of_url(url: str) -> str:
    """Return the file a ``sqlite://`` URL names; three or four slashes, the path is absolute.

    Raises: ConfigError when there is no path.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or not path.strip("/"):
        raise ConfigError(
            f"broker URL {url!r}: expected sqlite:/// and an absolute path, such as sqlite:////var/lib/opsq/broker.db"
        )
    return "/" + path.lstrip("/")


def _synchronous(value: Any) -> str:
    mode = str(value or _DEFAULTS.synchronous).upper()
    if mode not in {"NORMAL", "FULL"}:
        raise ConfigError(f"broker_sqlite_synchronous: expected NORMAL or FULL, got {value!r}")
    return mode
