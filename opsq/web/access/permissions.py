"""What can be allowed, and which role has it. Routes name one permission each; the gate checks it, nobody else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

Role = Literal["viewer", "operator", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Permission:
    """One thing that can be allowed. least: the smallest role that has it by itself."""

    name: str
    least: Role
    doc: str


PERMISSIONS: Final = (
    Permission("read", "viewer", "See pages, search, and read the API; arguments, results and logs stay hidden."),
    Permission("metrics", "viewer", "Scrape `/metrics` and the scale signals."),
    Permission("payload", "operator", "See arguments, results, exception texts with values, log lines."),
    Permission("act", "operator", "Revoke, terminate, retry and resend tasks; pause queues and task types."),
    Permission("tune", "operator", "Pool size, rate and time limits, queues of a worker, log level."),
    Permission("audit", "operator", "Read who did what."),
    Permission("manage", "admin", "Purge and move queues, shut workers down, restart pools, read settings."),
)
PUBLIC: Final = "none"
"""Permission of routes that everybody may ask: probes, static files, the sign-in page."""

_BY_NAME: Final = {permission.name: permission for permission in PERMISSIONS}


def of_role(role: Role) -> frozenset[str]:
    """List what a role allows by itself."""
    rank = ROLES.index(role)
    return frozenset(permission.name for permission in PERMISSIONS if ROLES.index(permission.least) <= rank)


def unknown(names: Iterable[str]) -> tuple[str, ...]:
    """List the names that are no permission."""
    return tuple(name for name in names if name not in _BY_NAME)


EVERYTHING: Final = of_role("admin")
