"""Which history stores there are, by the scheme of their URL; the matrix the contract suite is checked against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol, cast

from opsq import plugins
from opsq.errors import ConfigError, Fault
from opsq.events.grammar import Node
from opsq.events.rollup import SliceKey
from opsq.events.rows import MOST_COUNTED, Cell, Count, Found
from opsq.events.store import Store

#: scheme -> function that opens a store from its URL; loaded only when chosen.
STORES: Mapping[str, str] = MappingProxyType(
    {
        "sqlite": "opsq.events.sqlite:open_url",
        "postgresql": "opsq.events.postgres:open_url",
        "postgres": "opsq.events.postgres:open_url",
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


class Finder(Protocol):
    """What reading alone needs: no lock is taken and nothing is made."""

    def find(self, root: Node, now: float, *, before: int | None = None, limit: int = 50) -> Found:
        """The newest rows that fit a search, newest first."""
        ...

    def count(
        self, root: Node, now: float, *, most: int = MOST_COUNTED, enough: Callable[[], bool] = lambda: False
    ) -> Count:
        """How many rows fit."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


def open_reader(url: str) -> Finder:
    """Open the history at ``url`` for reading beside its monitor. Raises ConfigError, StoreUnavailable."""
    return cast(Finder, _part(url, "open_reader")(url))


class _Beside:
    """A reader as a store that nobody writes to through it: figures that only a writer has are not there."""

    def __init__(self, reader: Finder) -> None:
        self._reader = reader

    def fetch_slices(self, keys: Iterable[SliceKey]) -> Mapping[SliceKey, bytes]:
        """None: there is no fold here that would go on with them."""
        return {}

    def counts(self) -> Mapping[Cell, int] | None:
        """What was restored is all."""
        return None

    def ledger(self) -> Mapping[str, bytes] | None:
        """What was restored is all."""
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def open_beside(url: str) -> Store:
    """Open the history for reading beside its monitor, for ``Query`` and ``Cluster``; writing to it fails.

    Raises ConfigError, StoreUnavailable.
    """
    return cast(Store, _Beside(open_reader(url)))


def versions(url: str) -> tuple[int, int]:
    """(version of the tables, 0 for none; version this program knows). Raises ConfigError, StoreUnavailable."""
    return cast(tuple[int, int], _part(url, "versions")(url))


def _part(url: str, name: str) -> Callable[[str], object]:
    opener = STORES.get(url.partition("://")[0])
    if opener is None or opener.startswith("opsq.events.store:"):
        raise ConfigError([Fault(f"{url.partition(':')[0]} keeps nothing that another process could read")])
    part = plugins.resolve(f"{opener.partition(':')[0]}:{name}", origin="monitor_store_url")
    assert callable(part)
    return part
