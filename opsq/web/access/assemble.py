"""Puts door and gate together from the settings."""

from __future__ import annotations

import logging
from pathlib import Path

from opsq.clock import Clock, SystemClock
from opsq.errors import ConfigError, Fault
from opsq.settings import Settings
from opsq.web.access import accounts
from opsq.web.access.door import Door
from opsq.web.access.gate import Gate
from opsq.web.access.limits import Limiter
from opsq.web.access.sessions import Sessions, keep_key

log = logging.getLogger("opsq.web")

_USUAL_NAME = "users.json"
_LEAST_KEY = 16


def users_file(settings: Settings) -> Path:
    """Path of the accounts file, whether it is there or not."""
    return Path(settings.web_users_file or settings.data_path(_USUAL_NAME)).expanduser()


def access(settings: Settings, prefix: str) -> tuple[Door, Gate]:
    """Build door and gate. Raises ConfigError when the accounts cannot be read or the key is too short."""
    path = users_file(settings)
    used = settings.web_users_file is not None or path.exists()
    if used and accounts.too_open(path):
        log.warning("others on this machine can read the accounts file; chmod 600 it", extra={"file": str(path)})
    if settings.web_users_file is not None and not path.exists() and not settings.web_admin_password:
        raise ConfigError([Fault(f"{path} is not there", "web_users_file", "make it with `opsq users add`")])
    clock = SystemClock()
    limiter = Limiter(clock)
    key = _key(settings) if used or settings.web_admin_password else b""
    sessions = Sessions(key, settings.web_session_hours * 3600)
    door = Door(path if used else None, settings.web_admin_password, sessions, limiter, clock)
    return door, Gate(door, limiter, prefix)


def open_access(clock: Clock, prefix: str = "") -> tuple[Door, Gate]:
    """Build door and gate for a page that everybody on this machine may use."""
    limiter = Limiter(clock)
    door = Door(None, None, Sessions(b"", 3600.0), limiter, clock)
    return door, Gate(door, limiter, prefix)


def _key(settings: Settings) -> bytes:
    if settings.web_secret_key is not None:
        if len(settings.web_secret_key) < _LEAST_KEY:
            problem = f"the key has {len(settings.web_secret_key)} characters, at least {_LEAST_KEY} are needed"
            raise ConfigError([Fault(problem, "web_secret_key", "make one with `openssl rand -hex 32`")])
        return settings.web_secret_key.encode()
    path = Path(settings.data_path("web.key"))
    try:
        return keep_key(path)
    except OSError as error:
        raise ConfigError([Fault(f"{path} cannot be kept: {error.strerror}", "data_dir")]) from error
