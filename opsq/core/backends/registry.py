"""Which result store a URL means. One table; other packages add theirs as entry points ``opsq.backends``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Final, cast

from opsq import plugins
from opsq.core.backends.base import Backend
from opsq.errors import ConfigError
from opsq.masking import mask_url
from opsq.settings import Settings

OpenBackend = Callable[[str, Settings], Backend]

GROUP: Final = "opsq.backends"
SCHEMES: Final[Mapping[str, str]] = {
    "sqlite": "opsq.core.backends.sqlite:open_sqlite",
    "redis": "opsq.core.backends.redis:open_redis",
    "rediss": "opsq.core.backends.redis:open_redis",
    "unix": "opsq.core.backends.redis:open_redis",
    "socket": "opsq.core.backends.redis:open_redis",
    "redis+socket": "opsq.core.backends.redis:open_redis",
    "sentinel": "opsq.core.backends.redis:open_redis",
    "memory": "opsq.core.backends.memory:open_memory",
    "cache+memory": "opsq.core.backends.memory:open_memory",
    "db": "opsq.core.backends.sql:open_sql",
    "database": "opsq.core.backends.sql:open_sql",
    "cache": "opsq.core.backends.memcached:open_memcached",
    "memcache": "opsq.core.backends.memcached:open_memcached",
    "memcached": "opsq.core.backends.memcached:open_memcached",
    "mongodb": "opsq.core.backends.mongodb:open_mongodb",
    "cassandra": "opsq.core.backends.cassandra:open_cassandra",
    "django-db": "opsq.core.backends.django_db:open_django_db",
    "django-cache": "opsq.core.backends.django_cache:open_django_cache",
    "file": "opsq.core.backends.filesystem:open_filesystem",
    "filesystem": "opsq.core.backends.filesystem:open_filesystem",
    "s3": "opsq.core.backends.s3:open_s3",
    "rpc": "opsq.core.backends.rpc:open_rpc",
    "disabled": "opsq.core.backends.disabled:open_disabled",
}


def scheme_of(url: str) -> str:
    """The part of a URL, or of a bare name such as ``redis``, that says which store is meant."""
    return url.partition("://")[0].lower()


def open_backend(url: str | None, settings: Settings) -> Backend:
    """Make the result store that ``url`` means; it connects at first use.

    url: none means disabled.
    Raises: ConfigError for an unknown scheme (with the nearest known one), or a missing library
    (with what to install).
    """
    url = url or "disabled://"
    scheme = scheme_of(url)
    kind = scheme if scheme in SCHEMES else scheme.partition("+")[0]
    override = settings.override_backends.get(scheme)
    if override is not None:
        found = plugins.resolve(override) if isinstance(override, str) else override
    elif kind in SCHEMES:
        found = plugins.resolve(SCHEMES[kind])
    else:
        found = _from_plugins(scheme, url)
    if not callable(found):
        raise ConfigError(f"result backend {scheme!r}: expected a function (url, settings), got {found!r}")
    return cast(OpenBackend, found)(url if "://" in url else f"{url}://", settings)


def _from_plugins(scheme: str, url: str) -> object:
    added = plugins.load_group(GROUP)
    if scheme in added:
        return added[scheme]
    known = sorted({*SCHEMES, *added})
    near = difflib.get_close_matches(scheme, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"result_backend {mask_url(url)!r} means an unknown result store {scheme!r}; {hint}known are {', '.join(known)}"
    )
