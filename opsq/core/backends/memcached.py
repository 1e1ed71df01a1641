"""Results in memcached, under Celery's keys: ``cache+memcached://host:11211;host2:11211/``.

A cache may drop an entry whenever it needs the room, so this is for results that may get lost. Compare and
swap keeps a SUCCESS from being replaced.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymemcache.client.base import PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.client.retrying import RetryingClient
from pymemcache.exceptions import MemcacheError, MemcacheServerError

from opsq.core.backends.base import Capabilities, Kind
from opsq.core.backends.document import is_success
from opsq.core.backends.keys import key_of, key_prefix
from opsq.core.backends.per_process import PerProcess
from opsq.core.backends.polled import PolledBackend
from opsq.errors import BackendUnavailable, ConfigError, UsageError
from opsq.settings import Settings

# memcached takes a longer time for a moment since 1970.
_LONGEST_RELATIVE_S: Final = 30 * 86_400
_TRIES: Final = 20
_SAFE: Final = re.compile(r"[!-~]{1,250}")
_DEFAULTS: Final = {"connect_timeout": 5.0, "timeout": 5.0}
_OF_OTHER_CLIENTS: Final = ("behaviors", "binary")
_RETRYING: Final = {"attempts": "retry_attempts", "retry_delay": "retry_delay", "retry_for": "retry_for"}


class MemcachedBackend(PolledBackend):
    """One memcached, or several that share the keys. servers: ``host:port`` each. options: of pymemcache."""

    def __init__(self, servers: Sequence[str], prefix: str = "", options: Mapping[str, Any] | None = None) -> None:
        can = Capabilities(counts=False, expires=True, notifies=False, cross_process=True)
        super().__init__(f"cache+memcached://{';'.join(servers)}/", can, (MemcacheError, OSError))
        self._servers = list(servers)
        self._prefix = prefix
        self._options = dict(options or {})
        self._client: PerProcess[Any] = PerProcess(self._connect, lambda client: client.close())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _write(self, kind: Kind, id: str, payload: bytes, state: str, ttl_s: float | None) -> bool:
        client, key, ends = self._client.get(), self._key(kind, id), _ends(ttl_s)
        for _ in range(_TRIES):
            known, ticket = client.gets(key)
            if known is not None and is_success(known):
                return False
            if self._stored(client, key, payload, ends, ticket):
                return True
        raise BackendUnavailable(f"result store {self._name}: others keep changing {key}")

    def _stored(self, client: Any, key: str, payload: bytes, ends: int, ticket: Any) -> bool:
        try:
            if ticket is None:
                return bool(client.add(key, payload, expire=ends))
            return bool(client.cas(key, payload, ticket, expire=ends))
        except MemcacheServerError as error:
            if b"too large" not in bytes(str(error), "utf-8"):
                raise
            raise UsageError(
                f"a result of {len(payload):,} bytes is larger than memcached takes (1 MB unless started with -I)"
            ) from error

    def _read(self, kind: Kind, ids: Sequence[str]) -> Mapping[str, bytes]:
        keys = {self._key(kind, id): id for id in ids}
        found = self._client.get().get_many(list(keys))
        return {keys[key]: value for key, value in found.items()}

    def _delete(self, kind: Kind, ids: Sequence[str]) -> None:
        self._client.get().delete_many([self._key(kind, id) for id in ids])

    def _key(self, kind: Kind, id: str) -> str:
        key = key_of(kind, id, self._prefix)
        return key if _SAFE.fullmatch(key) else key_of(kind, hashlib.sha256(id.encode()).hexdigest(), self._prefix)

    def _connect(self) -> Any:
        options: dict[str, Any] = {**_DEFAULTS, **self._options, "default_noreply": False}
        again = {new: options.pop(old) for new, old in _RETRYING.items() if old in options}
        for name in _OF_OTHER_CLIENTS:
            options.pop(name, None)
        try:
            client: Any = (
                PooledClient(self._servers[0], **options)
                if len(self._servers) == 1
                else HashClient(self._servers, use_pooling=True, **options)
            )
            return RetryingClient(client, **again) if again else client
        except (TypeError, ValueError) as error:
            raise ConfigError(f"cache_backend_options: {error}") from None


def _ends(ttl_s: float | None) -> int:
    if ttl_s is None:
        return 0
    seconds = max(1, math.ceil(ttl_s))
    return seconds if seconds <= _LONGEST_RELATIVE_S else int(time.time()) + seconds


def open_memcached(url: str, settings: Settings) -> MemcachedBackend:
    """Make the backend for ``cache+memcached://`` or ``memcached://``.

    Raises: ConfigError when no server is named.
    """
    servers = [server for server in url.partition("://")[2].rstrip("/").split(";") if server]
    if not servers:
        raise ConfigError(f"result_backend {url!r} names no server; write cache+memcached://127.0.0.1:11211/")
    return MemcachedBackend(servers, key_prefix(settings), settings.cache_backend_options)
