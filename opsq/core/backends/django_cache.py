"""Results in a cache of Django's, under Celery's keys: ``django-cache``; ``cache_backend`` names which cache.

As django-celery-results does, a document is kept as the dict it is, not as bytes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings as of_django
from django.core.cache import InvalidCacheBackendError, caches
from django.core.exceptions import ImproperlyConfigured

from opsq.core.backends.base import Capabilities, Kind
from opsq.core.backends.fields import Fields, readable
from opsq.core.backends.keys import key_of, key_prefix
from opsq.core.backends.polled import PolledBackend
from opsq.errors import ConfigError
from opsq.settings import Settings
from opsq.wire.exceptions import exception_to_wire
from opsq.wire.result import result_from_wire
from opsq.wire.states import SUCCESS

_LONGEST_KEY: Final = 200


class DjangoCacheBackend(PolledBackend):
    """One cache of the project. alias: its name in ``CACHES``.

    A cache of Django's cannot compare and set, so the state is read first.
    """

    def __init__(self, alias: str, prefix: str, fields: Fields) -> None:
        can = Capabilities(
            counts=False,
            expires=True,
            notifies=False,
            cross_process=_is_shared(alias),
            atomic=False,
            keeps="fields",
        )
        # What the client of the cache behind it raises, nobody knows here.
        super().__init__(f"django-cache {alias}", can, (Exception,))
        self.fields = fields
        self._alias = alias
        self._prefix = prefix

    def close(self) -> None:
        """Close this thread's connection."""
        caches[self._alias].close()

    def _write(self, kind: Kind, id: str, payload: bytes, state: str, ttl_s: float | None) -> bool:
        cache, key = caches[self._alias], self._key(kind, id)
        known = cache.get(key)
        if isinstance(known, dict) and known.get("status") == SUCCESS:
            return False
        cache.set(key, self.fields.decode(payload), None if ttl_s is None else max(1, math.ceil(ttl_s)))
        return True

    def _read(self, kind: Kind, ids: Sequence[str]) -> Mapping[str, bytes]:
        keys = {self._key(kind, id): id for id in ids}
        make = self._document if kind == "task" else self._group_document
        found = caches[self._alias].get_many(list(keys))
        return {keys[key]: make(keys[key], document) for key, document in found.items()}

    def _delete(self, kind: Kind, ids: Sequence[str]) -> None:
        caches[self._alias].delete_many([self._key(kind, id) for id in ids])

    def _key(self, kind: Kind, id: str) -> str:
        safe = id.isascii() and id.isprintable() and " " not in id and len(id) <= _LONGEST_KEY
        return key_of(kind, id if safe else hashlib.sha256(id.encode()).hexdigest(), self._prefix)

    def _document(self, id: str, kept: Any) -> bytes:
        def make() -> bytes:
            document: dict[str, Any] = {"task_id": id, **kept}
            if isinstance(document.get("result"), BaseException):
                document["result"] = exception_to_wire(document["result"], "json")
            return self.fields.document(result_from_wire(document))

        return readable(make, repr(kept))

    def _group_document(self, id: str, kept: Any) -> bytes:
        return readable(lambda: self.fields.group(kept["result"]), repr(kept))


def _is_shared(alias: str) -> bool:
    return "locmem" not in of_django.CACHES[alias]["BACKEND"]


def open_django_cache(url: str, settings: Settings) -> DjangoCacheBackend:
    """Make the backend for ``django-cache``.

    Raises: ConfigError where Django has no settings, or no cache of that name.
    """
    alias = settings.cache_backend or "default"
    try:
        _ = caches[alias]
        return DjangoCacheBackend(alias, key_prefix(settings), Fields(settings))
    except InvalidCacheBackendError:
        raise ConfigError(f"cache_backend {alias!r} is no cache of Django's setting CACHES") from None
    except ImproperlyConfigured:
        raise ConfigError("result_backend django-cache needs Django's settings; set DJANGO_SETTINGS_MODULE") from None
