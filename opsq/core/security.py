"""Signing what an app sends and verifying what it takes: ``app.setup_security``.

Everything is Celery's: the method's arguments, the settings, the demand that ``task_serializer`` is
``auth`` and ``accept_content`` only that. Keys are read when the app is finalised, with every fault
reported together. Children of the prefork pool sign too, because they build the same app.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from opsq import plugins
from opsq.errors import ConfigError, Fault, UsageError
from opsq.masking import Secret
from opsq.settings import Settings
from opsq.wire.auth import auth_serializer
from opsq.wire.content import AUTH, DEFAULT_REGISTRY, ContentRegistry, accept_set

if TYPE_CHECKING:
    from opsq.core.app import Opsq

NEEDED = ("security_key", "security_certificate", "security_cert_store")


class Signing(Struct, frozen=True):
    """What ``setup_security`` was given; None leaves it to the setting. Holds paths of keys, not keys."""

    allowed: tuple[str, ...]
    key: str | None
    password: Secret | None
    certificate: str | None
    store: str | None
    digest: str | None
    serializer: str


def setup_security(
    self: Opsq,
    allowed_serializers: Iterable[str] | None = None,
    key: str | None = None,
    key_password: str | None = None,
    cert: str | None = None,
    store: str | None = None,
    digest: str | None = None,
    serializer: str = "json",
) -> None:
    """Sign task messages, and take only those that somebody trusted has signed.

    allowed_serializers: what a signed body of others may be written with, besides JSON and
    ``serializer``, which ours are. The rest stands for the settings ``security_key``,
    ``security_key_password``, ``security_certificate``, ``security_cert_store`` (folder or glob of
    the trusted certificates) and ``security_digest``.
    Raises: ConfigError when ``cryptography`` is not installed, UsageError when the app is in use.
    """
    plugins.require("cryptography", "message signing")
    if self.is_finalized:
        raise UsageError("setup_security comes too late: the app is in use, and has sent or taken unsigned messages")
    password = Secret(key_password) if key_password else None
    self.signing = Signing(tuple(allowed_serializers or ()), key, password, cert, store, digest, serializer)


def content_registry(settings: Settings, signing: Signing | None, now: Callable[[], float]) -> ContentRegistry:
    """The serializers of an app: the usual ones, and ``auth`` when it signs.

    now: epoch seconds, for certificates that expire.
    Raises: ConfigError with every fault.
    """
    if signing is None:
        return DEFAULT_REGISTRY
    faults = _unsigned_doors(settings)
    place = {name: given or getattr(settings, name) for name, given in zip(NEEDED, _places(signing), strict=True)}
    faults += [
        Fault(f"{name} is not set, and signing needs it", "setup_security") for name in NEEDED if not place[name]
    ]
    inner = {"json", signing.serializer, *signing.allowed}
    if AUTH.name in inner:
        faults.append(Fault("what is signed cannot be written with auth itself", "setup_security"))
    if faults:
        raise ConfigError(faults)
    accept = accept_set(inner)
    load_signer: Any = plugins.resolve("opsq.core.certificates:load_signer")
    load_store: Any = plugins.resolve("opsq.core.certificates:load_store")
    digest = signing.digest or settings.security_digest
    secret = signing.password or settings.security_key_password
    password = secret.reveal() if secret else None
    try:
        signer = load_signer(place[NEEDED[0]], password, place[NEEDED[1]], digest, now())
    except ConfigError as error:
        faults += error.faults
    try:
        verifier = load_store(place[NEEDED[2]], digest, now)
    except ConfigError as error:
        faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise ConfigError(faults)
    return DEFAULT_REGISTRY.plus(auth_serializer(signer, verifier, signing.serializer, accept, DEFAULT_REGISTRY))


def _places(signing: Signing) -> tuple[str | None, ...]:
    return signing.key, signing.certificate, signing.store


def _unsigned_doors(settings: Settings) -> list[Fault]:
    """What would let unsigned messages out or in."""
    faults = []
    if settings.task_serializer != AUTH.name:
        problem = f"signing needs task_serializer to be auth, got {settings.task_serializer}"
        faults.append(Fault(problem, "setup_security", "set task_serializer = 'auth'"))
    if {*settings.accept_content} - {AUTH.name, AUTH.mime} or not settings.accept_content:
        problem = f"signing needs accept_content to be auth alone, got {', '.join(settings.accept_content)}"
        faults.append(
            Fault(problem, "setup_security", "set accept_content = ['auth']: unsigned messages prove nothing")
        )
    return faults
