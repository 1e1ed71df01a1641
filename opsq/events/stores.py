"""Which history stores there are, by the scheme of their URL; the matrix the contract suite is checked against."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from opsq import plugins
from opsq.errors import ConfigError, Fault
from opsq.events.store import Store

#: scheme -> function that opens a store from its URL; loaded only when chosen.
STORES: Mapping[str, str] = MappingProxyType(
    {
        "sqlite": "opsq.events.sqlite:open_url",
        "memory": "opsq.events.store:open_url",
    }
)
GROUP = "opsq.stores"


def open_store(url: str) -> Store:
    """Open the history at ``url``: ``sqlite:///abs/path``, ``memory://``, or a scheme an entry point brings.

    Raises ConfigError for a URL that means nothing, StoreUnavailable when the store does not answer.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ConfigError([Fault(f"expected a URL such as sqlite:////var/lib/opsq/history.db, got {url!r}")])
    opener = plugins.choose(GROUP, scheme, STORES, origin="monitor_store_url")
    if not callable(opener):
        raise ConfigError([Fault(f"store {scheme} must name a function that opens a URL, got {opener!r}")])
    return cast(Store, opener(url))
