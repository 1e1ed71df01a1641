"""The accounts file: users with roles, tokens with scopes. JSON, mode 0600, written by ``opsq users``."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from opsq.errors import ConfigError, Fault
from opsq.web.access.passwords import readable
from opsq.web.access.permissions import PERMISSIONS, Role, of_role, unknown

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_SETTING: Final = "web_users_file"
_KNOWN: Final = ", ".join(permission.name for permission in PERMISSIONS)


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person. password: as ``passwords.hash_password`` writes it. also: permissions beyond the role's."""

    role: Role
    password: str
    also: tuple[str, ...] = ()

    def grants(self) -> frozenset[str]:
        """List what this user may do."""
        return of_role(self.role) | frozenset(self.also)


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program's key. hash: of the token. scopes: the permissions it is cut down to, empty for all of its role."""

    role: Role
    hash: str
    scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None

    def grants(self) -> frozenset[str]:
        """List what this token may do."""
        return of_role(self.role) & frozenset(self.scopes) if self.scopes else of_role(self.role)


class Accounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everybody who may come in, by name."""

    users: Mapping[str, User] = {}
    tokens: Mapping[str, Token] = {}

    def __bool__(self) -> bool:
        return bool(self.users or self.tokens)


def read(path: Path) -> Accounts:
    """Read the accounts file; one that is not there has nobody in it. Raises ConfigError naming every fault."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Accounts()
    except OSError as error:
        raise ConfigError([Fault(f"{path} cannot be read: {error.strerror}", _SETTING)]) from error
    try:
        accounts = msgspec.json.decode(raw, type=Accounts)
    except msgspec.DecodeError as error:
        advice = "write it with `opsq users add`, or mend it by hand"
        raise ConfigError([Fault(f"{path} is not a list of accounts: {error}", _SETTING, advice)]) from error
    faults = [*_user_faults(path, accounts), *_token_faults(path, accounts)]
    if faults:
        raise ConfigError(faults)
    return accounts


def write(path: Path, accounts: Accounts) -> None:
    """Replace the accounts file in one step, readable by its owner only. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")  # made with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(accounts), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def too_open(path: Path) -> bool:
    """Tell whether others on this machine can read the file."""
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def _user_faults(path: Path, accounts: Accounts) -> list[Fault]:
    found = []
    for name, user in accounts.users.items():
        where = f"{path}: user {name!r}"
        if not NAME.fullmatch(name):
            found.append(Fault(f"{where}: a name is letters, digits and ._@+-, at most 64", _SETTING))
        if not readable(user.password):
            advice = "set it with `opsq users add`; a password is never kept as it was typed"
            found.append(Fault(f"{where}: the password is no scrypt text", _SETTING, advice))
        found += [
            Fault(f"{where}: {each!r} is no permission", _SETTING, f"known: {_KNOWN}") for each in unknown(user.also)
        ]
    return found


def _token_faults(path: Path, accounts: Accounts) -> list[Fault]:
    found = []
    for name, token in accounts.tokens.items():
        where = f"{path}: token {name!r}"
        if not token.hash.startswith("sha256$"):
            found.append(Fault(f"{where}: the hash is not sha256$…", _SETTING, "make one with `opsq users token`"))
        if token.expires_at is not None and token.expires_at.tzinfo is None:
            found.append(Fault(f"{where}: expires_at has no time zone", _SETTING, "end it with Z for UTC"))
        found += [
            Fault(f"{where}: {each!r} is no permission", _SETTING, f"known: {_KNOWN}") for each in unknown(token.scopes)
        ]
    return found
