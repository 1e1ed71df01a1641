"""Finds out who asks: a cookie, a user name with a password, or a token. Says nothing of what they may do.

While nobody has an account the page is open, and ``server.bind`` lets it listen on loopback only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opsq.clock import Clock
from opsq.errors import ConfigError, Fault
from opsq.web.access import accounts as files
from opsq.web.access.accounts import Accounts, User
from opsq.web.access.limits import SIGN_IN, Limiter
from opsq.web.access.passwords import TOKEN_PREFIX, decoy, hash_password, hash_token, password_fits
from opsq.web.access.permissions import EVERYTHING
from opsq.web.access.sessions import Sessions

LOCAL: Final = "local"
ADMIN: Final = "admin"
_REMEMBER_S: Final = 300.0
_REMEMBERED: Final = 1000


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who came in. how: ``open``, ``session``, ``password`` or ``token``. grants: names of permissions."""

    name: str
    grants: frozenset[str]
    how: str


NOBODY_NEEDED: Final = Visitor(LOCAL, EVERYTHING, "open")
STRANGER: Final = Visitor("", frozenset(), "none")


class TooManyTries(Exception):
    """Signing in failed too often. wait_s: when the next try is looked at."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many failed sign-ins; the next is looked at in {wait_s:.0f} s")
        self.wait_s = wait_s


class Door:
    """Recognises visitors. Thread: any; a password costs about 0.2 s, so ask from a thread.

    path: the accounts file, none for an open page. admin_password: of the user ``admin``, from the settings, so that a
    container needs no file; a user ``admin`` in the file wins. Changes to the file count at once; a file that
    cannot be read any more lets nobody in and is logged by the caller.
    """

    def __init__(
        self, path: Path | None, admin_password: str | None, sessions: Sessions, limiter: Limiter, clock: Clock
    ) -> None:
        self._path = path
        self._sessions = sessions
        self._limiter = limiter
        self._clock = clock
        self._admin = User("admin", hash_password(admin_password)) if admin_password else None
        self._lock = threading.Lock()
        self._read_at: tuple[int, int] | None = None
        self._accounts = Accounts()
        self._remember_key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._decoy = decoy()
        self.accounts()

    @property
    def session_s(self) -> float:
        """How long somebody stays signed in."""
        return self._sessions.lasts_s

    @property
    def open(self) -> bool:
        """Whether nobody has an account, so that everybody who reaches the page may do everything."""
        return self._path is None and self._admin is None

    def accounts(self) -> Accounts:
        """Read who has an account now. Raises ConfigError when the file cannot be read."""
        if self._path is not None:
            with self._lock:
                stamp = _stamp(self._path)
                if stamp != self._read_at:
                    self._accounts = files.read(self._path)
                    self._read_at = stamp
        if self._admin is None or ADMIN in self._accounts.users:
            return self._accounts
        return Accounts({**self._accounts.users, ADMIN: self._admin}, self._accounts.tokens)

    def by_cookie(self, cookie: str) -> Visitor | None:
        """Recognise somebody who signed in before."""
        claim = self._sessions.claim(cookie)
        user = self.accounts().users.get(claim.user) if claim else None
        if claim is None or user is None:
            return None
        if not self._sessions.genuine(cookie, claim, user.password, self._clock.now()):
            return None
        return Visitor(claim.user, user.grants(), "session")

    def by_header(self, authorization: str, address: str) -> Visitor | None:
        """Recognise ``Basic`` and ``Bearer``. Raises TooManyTries, ConfigError."""
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self._by_token(value.strip(), address)
        if scheme.lower() != "basic":
            return None
        try:
            name, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        return self.by_password(name, password, address) if colon else None

    def by_password(self, name: str, password: str, address: str) -> Visitor | None:
        """Recognise a user. A user that is not there costs as much as a wrong password. Raises TooManyTries."""
        user = self.accounts().users.get(name)
        kept = user.password if user else self._decoy
        mark = hmac.new(self._remember_key, f"{name}\0{password}\0{kept}".encode(), hashlib.sha256).digest()
        if user is not None and self._is_remembered(mark):
            return Visitor(name, user.grants(), "password")
        self._may_try(name, address)
        if not password_fits(password, kept) or user is None:
            self._failed(name, address)
            return None
        self._limiter.forget("sign-in name", name)
        self._remember(mark, name)
        return Visitor(name, user.grants(), "password")

    def sign_in(self, name: str, password: str, address: str) -> str | None:
        """Check a password and write the cookie; none when it is wrong. Raises TooManyTries."""
        visitor = self.by_password(name, password, address)
        if visitor is None:
            return None
        return self._sessions.issue(name, self.accounts().users[name].password, self._clock.now())

    def _by_token(self, token: str, address: str) -> Visitor | None:
        if token.startswith(TOKEN_PREFIX):
            given, now = hash_token(token), self._clock.now()
            for name, kept in self.accounts().tokens.items():
                if hmac.compare_digest(kept.hash, given):
                    alive = kept.expires_at is None or kept.expires_at.timestamp() > now
                    return Visitor(name, kept.grants(), "token") if alive else None
        # Not held against a name: a scraper with an old token must not lock anybody out but its own address.
        self._may_try("", address)
        self._failed("", address)
        return None

    def _may_try(self, name: str, address: str) -> None:
        wait = self._limiter.wait_s("sign-in address", address, SIGN_IN)
        if name:
            wait = max(wait, self._limiter.wait_s("sign-in name", name, SIGN_IN))
        if wait:
            raise TooManyTries(wait)

    def _failed(self, name: str, address: str) -> None:
        self._limiter.count("sign-in address", address, SIGN_IN)
        if name:
            self._limiter.count("sign-in name", name, SIGN_IN)

    def _remember(self, mark: bytes, name: str) -> None:
        with self._lock:
            self._remembered[mark] = (name, self._clock.monotonic() + _REMEMBER_S)
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)

    def _is_remembered(self, mark: bytes) -> bool:
        # Programs send the password with every request; stretching it each time would be their load on us.
        with self._lock:
            _, until = self._remembered.get(mark, ("", 0.0))
            return until > self._clock.monotonic()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError([Fault(f"{path} cannot be read: {error.strerror}", "web_users_file")]) from error
    return found.st_mtime_ns, found.st_ino
