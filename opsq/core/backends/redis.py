"""Results in Redis, under Celery's keys, so that Celery clients read them and the reverse.

One script per result writes and announces it in one step, and never replaces a SUCCESS. The only
module of the result side that imports redis.

Source: celery-protocol D.4.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from opsq.core.backends.base import Capabilities, Kind
from opsq.core.backends.document import is_success
from opsq.core.backends.keys import key_of, key_prefix
from opsq.core.backends.polled import reason
from opsq.core.backends.redis_address import Connect, connector
from opsq.core.backends.redis_chord import RedisChords
from opsq.core.backends.redis_waiting import Listener, RedisSubscription
from opsq.errors import BackendUnavailable, ConfigError
from opsq.masking import mask_url
from opsq.settings import Settings

_IDS_PER_ROUND_TRIP: Final = 500
_LOST: Final = (redis.ConnectionError, redis.TimeoutError, OSError)

# The stored state is read off the front of a JSON document. A document of another kind (pickle,
# compressed) is given back unchanged: the caller decides and comes again with it as ARGV[4].
# ARGV: payload, ttl in ms or 0, 1 to announce, the value that may be replaced.
_PUT: Final = """
local known = redis.call('GET', KEYS[1])
if known and known ~= ARGV[4] then
    local state = string.match(string.sub(known, 1, 80), '^{%s*"status":%s*"([^"]*)"')
    if state == 'SUCCESS' then return 0 end
    if not state then return known end
end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
if ARGV[3] == '1' then redis.call('PUBLISH', KEYS[1], ARGV[1]) end
return 1
"""


class RedisBackend(RedisChords):
    """Strings in Redis, and pub/sub to tell who waits.

    url: of the server, also for messages. prefix: put before every key. connect: makes a client; by ``url``
    alone when not given. chords_ordered: whether the lists of chords keep the order of their headers.
    Thread: any; a forked child makes connections of its own.
    """

    def __init__(
        self, url: str, prefix: str = "", connect: Connect | None = None, *, chords_ordered: bool = True
    ) -> None:
        self._url = url
        self._prefix = prefix
        self._ordered = chords_ordered
        self._connect: Connect = connect or partial(redis.Redis.from_url, url)
        self._lock = threading.Lock()
        self._pid = 0
        self._client: Any = None
        self._put_script: Any = None
        self._listener: Listener | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return Capabilities(counts=True, expires=True, notifies=True, cross_process=True)

    def key(self, kind: Kind, id: str) -> str:
        """The key of an entry, which is also the channel it is announced on."""
        return key_of(kind, id, self._prefix)

    def put(self, kind: Kind, id: str, payload: bytes, *, state: str, ttl_s: float | None) -> bool:
        """Store and announce ``payload`` unless a SUCCESS is there; one round trip as a rule."""
        ttl_ms = 0 if ttl_s is None else max(1, int(ttl_s * 1000))
        announce = "1" if kind == "task" else "0"
        replaceable: bytes | str = ""
        with self._using():
            while True:
                answer = self._put_script(keys=[self.key(kind, id)], args=[payload, ttl_ms, announce, replaceable])
                if isinstance(answer, int):
                    return answer == 1
                if is_success(answer):
                    return False
                replaceable = answer

    def get(self, kind: Kind, id: str) -> bytes | None:
        """Read one entry, or none."""
        with self._using() as client:
            value: bytes | None = client.get(self.key(kind, id))
        return value

    def get_many(self, kind: Kind, ids: Sequence[str]) -> dict[str, bytes]:
        """Read several entries; missing ids are absent."""
        found: dict[str, bytes] = {}
        for start in range(0, len(ids), _IDS_PER_ROUND_TRIP):
            part = ids[start : start + _IDS_PER_ROUND_TRIP]
            with self._using() as client:
                values = client.mget([self.key(kind, id) for id in part])
            found.update((id, value) for id, value in zip(part, values, strict=True) if value is not None)
        return found

    def forget(self, kind: Kind, ids: Iterable[str]) -> None:
        """Delete entries."""
        keys = [self.key(kind, id) for id in ids]
        for start in range(0, len(keys), _IDS_PER_ROUND_TRIP):
            with self._using() as client:
                client.delete(*keys[start : start + _IDS_PER_ROUND_TRIP])

    def subscribe(self, ids: Sequence[str]) -> RedisSubscription:
        """Ask to be told when one of these changes."""
        with self._using():
            with self._lock:
                if self._listener is None:
                    self._listener = Listener(self._pubsub, _LOST)
                listener = self._listener
            return RedisSubscription(listener, {self.key("task", id): id for id in ids})

    def cleanup(self, now: float) -> int:
        """Redis expires keys by itself."""
        return 0

    def close(self) -> None:
        """Close every connection and end the listening thread."""
        with self._lock:
            client, listener, mine = self._client, self._listener, self._pid == os.getpid()
            self._client, self._listener, self._pid = None, None, 0
        if mine:
            if listener is not None:
                listener.close()
            if client is not None:
                client.close()

    @contextmanager
    def _using(self) -> Iterator[Any]:
        if self._pid != os.getpid():
            self._open()
        try:
            yield self._client
        except (redis.RedisError, OSError) as error:
            raise BackendUnavailable(f"result store {mask_url(self._url)}: {reason(error)}") from error

    def _open(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            try:
                self._client = self._connect()
            except (ValueError, TypeError) as error:
                raise ConfigError(f"result_backend {mask_url(self._url)}: {error}") from None
            self._put_script = self._client.register_script(_PUT)
            # A listener inherited through a fork has no thread here.
            self._listener = None
            self._pid = os.getpid()

    def _pubsub(self) -> Any:
        # Without retries of its own: two threads use this connection, and only one may reconnect it.
        return self._connect(retry=Retry(NoBackoff(), 0)).pubsub()


def open_redis(url: str, settings: Settings) -> RedisBackend:
    """Make the backend for a Redis URL from the ``redis_*`` settings and the transport options.

    Raises: ConfigError.
    """
    ordered = bool(settings.result_backend_transport_options.get("result_chord_ordered", True))
    return RedisBackend(url, key_prefix(settings), connector(url, settings), chords_ordered=ordered)
