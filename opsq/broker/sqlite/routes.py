"""Which queues a routing key leads to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct


class Route(Struct, frozen=True):
    """One binding, by names."""

    routing_key: str
    queue: str


def matching(kind: str, routes: Iterable[Route], routing_key: str) -> tuple[str, ...]:
    """Return the queues that ``routing_key`` reaches through an exchange of type ``kind``, each once."""
    if kind == "fanout":
        found = (route.queue for route in routes)
    elif kind == "topic":
        found = (route.queue for route in routes if topic_pattern(route.routing_key).fullmatch(routing_key))
    else:
        found = (route.queue for route in routes if route.routing_key == routing_key)
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=1024)
def topic_pattern(binding_key: str) -> re.Pattern[str]:
    """Compile a topic: ``*`` stands for one word, ``#`` for any number of words, none included."""
    words = binding_key.split(".")
    if set(words) == {"#"}:
        return re.compile(r".*", re.DOTALL)
    pattern, first = "", True
    for word in words:
        if word == "#":
            # The dot belongs to the wildcard, because "a.#" matches "a" as well.
            pattern += r"(?:[^.]+\.)*" if first else r"(?:\.[^.]+)*"
            continue
        pattern += ("" if first else r"\.") + (r"[^.]+" if word == "*" else re.escape(word))
        first = False
    return re.compile(pattern, re.DOTALL)
