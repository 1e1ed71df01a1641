"""No results: storing does nothing, reading says what to set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Never

from opsq.core.backends.base import Capabilities, Kind, ResultsDisabled
from opsq.settings import Settings


class DisabledBackend:
    """The backend of an app that has none. Thread: any."""

    @property
    def capabilities(self) -> Capabilities:
        """Nothing at all."""
        return Capabilities(counts=False, expires=True, notifies=False, cross_process=False)

    def put(self, kind: Kind, id: str, payload: bytes, *, state: str, ttl_s: float | None) -> bool:
        """Drop ``payload``: without a result store, tasks run and nobody asks."""
        return False

    def get(self, kind: Kind, id: str) -> bytes | None:
        """Raises: ResultsDisabled, naming the setting."""
        raise ResultsDisabled(f"the result of {id}")

    def get_many(self, kind: Kind, ids: Sequence[str]) -> dict[str, bytes]:
        """Raises: ResultsDisabled, naming the setting."""
        raise ResultsDisabled(f"the results of {len(ids)} tasks")

    def forget(self, kind: Kind, ids: Iterable[str]) -> None:
        """Nothing was kept."""

    def subscribe(self, ids: Sequence[str]) -> Never:
        """Raises: ResultsDisabled, naming the setting."""
        raise ResultsDisabled(f"the result of {ids[0] if len(ids) == 1 else f'{len(ids)} tasks'}")

    def cleanup(self, now: float) -> int:
        """Nothing expires."""
        return 0

    def close(self) -> None:
        """Nothing is open."""


def open_disabled(url: str, settings: Settings) -> DisabledBackend:
    """Make the backend for ``disabled://``."""
    return DisabledBackend()
