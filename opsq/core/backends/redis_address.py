"""How a Redis of results is reached: URL, ``redis_*`` settings, TLS, sentinels.

``sentinel://host:26379/0;sentinel://host2:26379/0`` with the transport option ``master_name``: the clients
ask the sentinels for the primary at every new connection, so they follow a failover.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from opsq import plugins
from opsq.errors import ConfigError
from opsq.masking import mask_url
from opsq.settings import Settings

#: Makes a client; takes more options of redis-py.
Connect = Callable[..., Any]

SENTINEL_PORT: Final = 26379
#: What Celery calls the checks of a certificate, by what redis-py calls them.
_CHECKS: Final = {"CERT_REQUIRED": "required", "CERT_OPTIONAL": "optional", "CERT_NONE": "none"}


def connector(url: str, settings: Settings) -> Connect:
    """What makes a client for a URL, by the settings.

    Raises: ConfigError for sentinels without ``master_name``, a credential provider that is none.
    """
    options = _options(settings)
    if url.startswith("sentinel://"):
        return _through_sentinels(url, options, settings.result_backend_transport_options)
    if settings.redis_backend_use_ssl:
        url = url.replace("redis://", "rediss://", 1) if url.startswith("redis://") else url
    if url.startswith(("redis+socket://", "socket://")):
        url = "unix://" + url.partition("://")[2].replace("virtual_host=", "db=")
    return partial(redis.Redis.from_url, _with_checks(url), **{**options, **_place(url, settings)})


def _options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": settings.redis_socket_timeout,
        "socket_connect_timeout": settings.redis_socket_connect_timeout,
        "socket_keepalive": settings.redis_socket_keepalive,
        "max_connections": settings.redis_max_connections,
        "client_name": settings.redis_client_name,
        "health_check_interval": settings.redis_backend_health_check_interval or None,
        "credential_provider": _provider(settings.redis_backend_credential_provider),
    }
    if settings.redis_retry_on_timeout:
        options["retry"] = Retry(NoBackoff(), 1, supported_errors=(redis.TimeoutError,))
    if isinstance(settings.redis_backend_use_ssl, Mapping):
        options |= settings.redis_backend_use_ssl
        checks = options.get("ssl_cert_reqs")
        options["ssl_cert_reqs"] = _CHECKS.get(checks, checks) if isinstance(checks, str) else checks
    return {name: value for name, value in options.items() if value is not None}


def _through_sentinels(url: str, options: dict[str, Any], transport: Mapping[str, Any]) -> Connect:
    name = transport.get("master_name")
    if not name:
        raise ConfigError(
            f"result_backend {mask_url(url)!r}: the name of the primary is missing; "
            'set result_backend_transport_options = {"master_name": "..."}'
        )
    each = [urlsplit(part if "://" in part else f"sentinel://{part}") for part in url.split(";") if part]
    places = [(place.hostname or "localhost", place.port or SENTINEL_PORT) for place in each]
    database = each[0].path.strip("/") or "0"
    login = {"username": each[0].username, "password": each[0].password}
    options |= {key: unquote(value) for key, value in login.items() if value}
    # One that is away costs one try, not several with pauses: the next one knows as much.
    of_sentinels = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": options.get("socket_connect_timeout") or options.get("socket_timeout"),
    }
    sentinels = _Sentinels(
        places,
        min_other_sentinels=int(transport.get("min_other_sentinels", 0)),
        sentinel_kwargs={**of_sentinels, **(transport.get("sentinel_kwargs") or {})},
    )
    return partial(sentinels.master_for, str(name), **{**options, "db": int(database)})


class _Sentinels(Sentinel):
    """Sentinels that one thread asks at a time.

    redis-py puts whoever answered first in front of its list, and a second thread that walks over the list
    at that moment can miss the only one that answers.
    """

    def __init__(self, places: Sequence[tuple[str, int]], **options: Any) -> None:
        make: Any = super().__init__
        make(places, **options)
        self._asking = threading.Lock()

    def discover_master(self, service_name: str) -> Any:
        """The address of the primary."""
        with self._asking:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]


def _with_checks(url: str) -> str:
    """The URL with redis-py's words for how a certificate is checked."""
    place = urlsplit(url)
    query = [(name, _CHECKS.get(value, value)) for name, value in parse_qsl(place.query)]
    return urlunsplit(place._replace(query=urlencode(query))) if query else url


def _provider(given: object) -> Any:
    """The credential provider that an object or a path means."""
    found = plugins.resolve(given, origin="redis_backend_credential_provider") if isinstance(given, str) else given
    found = found() if isinstance(found, type) else found
    if found is not None and not isinstance(found, redis.CredentialProvider):
        raise ConfigError(f"redis_backend_credential_provider must be a redis.CredentialProvider, got {found!r:.80}")
    return found


def _place(url: str, settings: Settings) -> dict[str, Any]:
    """Parts of the address from before URLs, for a URL that leaves them out."""
    place = urlsplit(url)
    parts: dict[str, Any] = {}
    if place.hostname is None and place.scheme in ("redis", "rediss"):
        parts = {"host": settings.redis_host, "port": settings.redis_port, "db": settings.redis_db}
    if place.username is None and settings.redis_username:
        parts["username"] = settings.redis_username
    if place.password is None and settings.redis_password is not None:
        parts["password"] = settings.redis_password.reveal()
    return {name: value for name, value in parts.items() if value is not None}
