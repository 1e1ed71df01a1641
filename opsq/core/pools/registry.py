"""Which pools there are, by name; the matrix that the contract suite is checked against."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from opsq import plugins
from opsq.errors import ConfigError, Fault

POOLS: Mapping[str, str] = MappingProxyType(
    {
        "prefork": "opsq.core.pools.prefork:PreforkPool",
        "threads": "opsq.core.pools.threads:ThreadsPool",
        "solo": "opsq.core.pools.solo:SoloPool",
        "asyncio": "opsq.core.pools.aio:AsyncioPool",
        "gevent": "opsq.core.pools.gevent:GeventPool",
        "eventlet": "opsq.core.pools.eventlet:EventletPool",
    }
)
"""The pools that opsq ships, by the name given to ``-P``; loaded only when chosen."""

ALIASES: Mapping[str, str] = MappingProxyType({"processes": "prefork", "thread": "threads", "aio": "asyncio"})
GROUP = "opsq.pools"


def load_pool(name: str) -> type[Any]:
    """The pool class called ``name``: one of ours, an entry point's, or ``module:Class``.

    Raises: ConfigError when there is none, naming those that there are.
    """
    name = ALIASES.get(name, name)
    found = plugins.resolve(name) if ":" in name else plugins.choose(GROUP, name, POOLS, origin="worker_pool")
    if isinstance(found, type) and hasattr(found, "capabilities"):
        return found
    raise ConfigError([Fault(f"worker_pool {name} must name a class with capabilities, got {found!r}")])
