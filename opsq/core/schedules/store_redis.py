"""A schedule in Redis: for beats on several machines. Each step is one script, by the server's clock.

Keys: ``opsq:beat:rows`` (hash), ``opsq:beat:lease`` (string ``token holder`` that expires) and ``opsq:beat:token``
(counter), in one hash slot.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import redis

from opsq.core.schedules.store import Leader
from opsq.errors import ConfigError, StoreUnavailable
from opsq.masking import mask_url
from opsq.settings import Settings

_ACQUIRE: Final = """
local now = redis.call('GET', KEYS[1])
if now and string.match(now, '^%d+ (.*)$') ~= ARGV[1] then return 0 end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token .. ' ' .. ARGV[1], 'PX', ARGV[2])
return token
"""
_MINE: Final = """
local now = redis.call('GET', KEYS[1])
if not now or string.match(now, '^(%d+) ') ~= ARGV[1] then return 0 end
"""
_RENEW: Final = _MINE + "redis.call('PEXPIRE', KEYS[1], ARGV[2]) return 1"
_RELEASE: Final = _MINE + "redis.call('DEL', KEYS[1]) return 1"
_WRITE: Final = (
    _MINE
    + """
local deleted = tonumber(ARGV[2])
for at = 3, 2 + deleted do redis.call('HDEL', KEYS[2], ARGV[at]) end
for at = 3 + deleted, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1]) end
return 1
"""
)


class RedisStore:
    """url: redis:// or rediss://. prefix: before every key. Thread: any; a forked child connects anew."""

    def __init__(self, url: str, prefix: str = "", options: Mapping[str, Any] | None = None) -> None:
        self._url = url
        self._options = dict(options or {})
        base = f"{prefix}opsq:{{beat}}:"
        self._rows, self._lease, self._token = f"{base}rows", f"{base}lease", f"{base}token"
        self._lock = threading.Lock()
        self._client: Any = None
        self._pid = 0

    def acquire(self, holder: str, ttl_s: float) -> int | None:
        """Lead when nobody does, or when ``holder`` did already."""
        with self._using() as client:
            token = int(client.eval(_ACQUIRE, 2, self._lease, self._token, holder, int(ttl_s * 1000)))
        return token or None

    def renew(self, token: int, ttl_s: float) -> bool:
        """Put the end of the lease off."""
        with self._using() as client:
            return bool(client.eval(_RENEW, 1, self._lease, token, int(ttl_s * 1000)))

    def release(self, token: int) -> None:
        """End the lease now."""
        with self._using() as client:
            client.eval(_RELEASE, 1, self._lease, token)

    def leader(self) -> Leader | None:
        """Who leads."""
        with self._using() as client:
            value, left_ms = client.get(self._lease), client.pttl(self._lease)
        if value is None or left_ms <= 0:
            return None
        token, _, holder = value.decode(errors="replace").partition(" ")
        return Leader(holder, int(token), left_ms / 1000)

    def read(self) -> dict[str, bytes]:
        """All rows."""
        with self._using() as client:
            return {name.decode(): value for name, value in client.hgetall(self._rows).items()}

    def write(self, token: int, changes: Mapping[str, bytes | None]) -> bool:
        """Write by one script."""
        deleted = [name for name, value in changes.items() if value is None]
        pairs = [part for name, value in changes.items() if value is not None for part in (name, value)]
        with self._using() as client:
            return bool(client.eval(_WRITE, 2, self._lease, self._rows, token, len(deleted), *deleted, *pairs))

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._client = self._client, None
            if client is not None and self._pid == os.getpid():
                client.close()

    @contextmanager
    def _using(self) -> Iterator[Any]:
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client, self._pid = self._connect(), os.getpid()
            client = self._client
        try:
            yield client
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailable(f"schedule in {mask_url(self._url)}: {error}") from error

    def _connect(self) -> Any:
        try:
            return redis.Redis.from_url(self._url, **self._options)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"beat_store_url {mask_url(self._url)}: {error}") from None


def open_redis(url: str, settings: Settings) -> RedisStore:
    """Make the store for a Redis URL; it shares the broker's key prefix."""
    prefix = str(settings.broker_transport_options.get("global_keyprefix", "") or "")
    options: dict[str, Any] = {
        "socket_timeout": min(settings.redis_socket_timeout or 5.0, settings.beat_lease_seconds / 2),
        "socket_connect_timeout": min(settings.redis_socket_connect_timeout or 5.0, settings.beat_lease_seconds / 2),
    }
    if isinstance(settings.broker_use_ssl, Mapping) and url.startswith("rediss"):
        options.update(settings.broker_use_ssl)
    return RedisStore(url, prefix, options)
