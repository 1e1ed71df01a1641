"""What the keys are called: kombu's names, and ours beside them.

Source: celery-protocol.md A-Redis; the options are kombu's own.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

LEASE_PREFIX = "opsq:lease:"


class Keys(Struct, frozen=True, kw_only=True):
    """Key names of one connection. steps: priorities kept apart, 0 is served first.

    prefix: ``global_keyprefix``, in front of every key. fanout: what channels begin with.
    """

    prefix: str = ""
    sep: str = "\x06\x16"
    steps: tuple[int, ...] = (0, 3, 6, 9)
    unacked_name: str = "unacked"
    unacked_index_name: str = "unacked_index"
    fanout: str = "/0."
    fanout_patterns: bool = True

    def step(self, priority: object) -> int:
        """Return the step that serves a priority; what is no number counts as 0."""
        number = priority if isinstance(priority, int) else 0
        return self.steps[max(bisect(self.steps, min(max(number, 0), 9)) - 1, 0)]

    def queue(self, name: str, priority: object = 0) -> str:
        """Return the list that messages of this priority are in."""
        step = self.step(priority)
        return f"{self.prefix}{name}{self.sep}{step}" if step else f"{self.prefix}{name}"

    def lists(self, names: Sequence[str]) -> list[str]:
        """Return all lists of these queues, in the order they are to be emptied."""
        return [self.queue(name, step) for step in self.steps for name in names]

    @property
    def unacked(self) -> str:
        """Hash: delivery tag → JSON ``[message, exchange, routing key]``."""
        return self.prefix + self.unacked_name

    @property
    def unacked_index(self) -> str:
        """Sorted set: delivery tag → epoch seconds when it was handed out, or last renewed."""
        return self.prefix + self.unacked_index_name

    @property
    def owners(self) -> str:
        """Hash: consumer → JSON record of whose it is."""
        return f"{self.prefix}opsq:owners{self._apart}"

    @property
    def alive_until(self) -> str:
        """Sorted set: consumer → epoch seconds of the server when its lease ends."""
        return f"{self.prefix}opsq:alive_until{self._apart}"

    @property
    def _apart(self) -> str:
        # Two apps with different unacked_key share a database, not their consumers.
        return "" if self.unacked_name == "unacked" else f":{self.unacked_name}"

    @property
    def standing(self) -> str:
        """Sorted set: standing order → epoch seconds at which it ends."""
        return f"{self.prefix}opsq:standing"

    def lease(self, consumer: str) -> str:
        """Sorted set: delivery tags that a consumer holds → order in which it took them."""
        return f"{self.prefix}{LEASE_PREFIX}{consumer}"

    @property
    def exchange_types(self) -> str:
        """Hash: exchange → type, for those that are not direct; kombu does not store it."""
        return f"{self.prefix}opsq:exchanges"

    def binding(self, exchange: str) -> str:
        """Set: ``routing key, pattern, queue`` of everything bound to an exchange."""
        return f"{self.prefix}_kombu.binding.{exchange}"

    def channel(self, exchange: str, routing_key: str) -> str:
        """Return the channel a fanout message is published on.

        The prefix goes in front of channels too, as kombu's client does it.
        """
        tail = f"/{routing_key}" if routing_key and self.fanout_patterns else ""
        return f"{self.prefix}{self.fanout}{exchange}{tail}"

    def pattern(self, exchange: str, routing_key: str) -> str:
        """Return what to subscribe to for a binding."""
        return self.channel(exchange, routing_key.replace("#", "*"))


def keys_of(channel: Any) -> Keys:
    """Read the names from a kombu channel, which took them from the transport options."""
    return Keys(
        prefix=channel.global_keyprefix or "",
        sep=channel.sep,
        steps=tuple(channel.priority_steps),
        unacked_name=channel.unacked_key,
        unacked_index_name=channel.unacked_index_key,
        fanout=channel.keyprefix_fanout,
        fanout_patterns=bool(channel.fanout_patterns),
    )


def seconds_option(options: Mapping[str, Any], name: str, default: float) -> float:
    """Return a transport option in seconds; the default when it is missing or 0."""
    return float(options.get(name) or default)
