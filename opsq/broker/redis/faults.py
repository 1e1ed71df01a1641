"""Redis's errors in words: what failed, where, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from opsq.broker.faults import BrokerBusy, BrokerUnusable, LeaseLost
from opsq.errors import BrokerUnavailable

LOST = "OPSQLOST"

_Known = tuple[type[BrokerUnavailable], str, str]
_KNOWN: Mapping[str, _Known] = MappingProxyType({
    "OOM": (
        BrokerBusy,
        "it has used all the memory that maxmemory allows and takes no more messages",
        "free memory or raise maxmemory; what it already holds can still be worked on",
    ),
    "READONLY": (
        BrokerUnavailable,
        "it is a read-only replica",
        "name the primary in the URL, or wait until the failover is over",
    ),
    "MISCONF": (
        BrokerBusy,
        "it cannot save to its disk and refuses to write",
        "free some space on its disk or see its log",
    ),
    "NOREPLICAS": (BrokerBusy, "too few replicas follow it, so it refuses to write", "see min-replicas-to-write"),
    "LOADING": (BrokerUnavailable, "it is still loading its data", "wait; this passes by itself"),
    "BUSY": (BrokerBusy, "a script keeps it busy", "wait, or end the script with SCRIPT KILL"),
    "MASTERDOWN": (BrokerUnavailable, "its primary is down", "name the primary in the URL"),
    "NOAUTH": (BrokerUnusable, "it wants a password", "put it into the URL: redis://:PASSWORD@host:6379/0"),
    "WRONGPASS": (BrokerUnusable, "user name or password are wrong", "check the URL"),
    "NOPERM": (
        BrokerUnusable,
        "this user may not run a command or touch a key that a broker needs",
        "allow it with ACL SETUSER: all keys and channels, +@all -@dangerous +client +info +keys",
    ),
    "NOPROTO": (BrokerUnusable, "it does not speak RESP3", "use Redis 6.2 or newer, not through a proxy for RESP2"),
    "ERR unknown command 'HELLO'": (BrokerUnusable, "it is too old", "use Redis 6.2 or newer"),
    "ERR unknown command `HELLO`": (BrokerUnusable, "it is too old", "use Redis 6.2 or newer"),
    "DB index": (BrokerUnusable, "it has no database of that number", "check the number at the end of the URL"),
    "ERR DB index": (BrokerUnusable, "it has no database of that number", "check the number at the end of the URL"),
    "ERR max number of clients": (BrokerUnavailable, "it has as many clients as it allows", "raise maxclients"),
    "WRONGTYPE": (
        BrokerUnusable,
        "a key of that name holds something that is not a queue",
        "use another database, or set global_keyprefix in the transport options",
    ),
})  # fmt: skip


_CODES: Mapping[str, str] = MappingProxyType({
    "AuthenticationError": "WRONGPASS",
    "BusyLoadingError": "LOADING",
    "MasterDownError": "MASTERDOWN",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
})  # fmt: skip
"""Classes of redis-py, by the code they leave out of their text."""


def of_reply(exc: Exception, name: str) -> BrokerUnavailable:
    """Turn an error reply into ours, naming the broker and a remedy. name: its URL without password."""
    said = str(exc)
    if LOST in said:
        return LeaseLost(
            f"broker {name}: this process was silent for longer than its lease; its messages went back to the queue"
        )
    for code, (kind, problem, remedy) in _KNOWN.items():
        # Inside a script the server's code comes first all the same, from Redis 7 on.
        if said.startswith(code) or f"-{code} " in said:
            return kind(f"broker {name}: {problem} ({said[:200]}); {remedy}")
    return BrokerUnavailable(f"broker {name}: {said[:300]}")


def explained(exc: Exception, name: str) -> BrokerUnavailable:
    """Turn what redis-py raises into ours; it turns the server's codes into classes."""
    said = str(exc).rpartition(" of pipeline caused error: ")[2]
    code = _CODES.get(type(exc).__name__, "")
    if code == "WRONGPASS" and "required" in said:
        code = "NOAUTH"
    found = of_reply(Exception(f"{code} {said}".strip()), name)
    if type(found) is BrokerUnavailable and not code:
        return BrokerUnavailable(f"{found}; check that it runs and that host, port and login are right")
    return found


def connection_lost(cause: OSError, name: str) -> BrokerUnavailable:
    """Say that a connection is gone, or silent for too long."""
    if isinstance(cause, (BlockingIOError, TimeoutError)):
        return BrokerUnavailable(f"broker {name}: it did not answer in time; check the network and its load")
    return BrokerUnavailable(f"broker {name}: the connection is lost ({cause}); it is made anew")


def wrong_policy(policy: str, name: str) -> BrokerUnusable:
    """Say that this server would throw messages away."""
    return BrokerUnusable(
        f"broker {name}: maxmemory-policy is {policy}, so Redis would drop queued messages when memory runs short; "
        "set it to noeviction, or accept the loss with the transport option allow_eviction = true"
    )
