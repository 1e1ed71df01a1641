"""What the stores have in common that tell nobody when an entry changes: errors, waiting, one sentence each.

A store gives the five steps at the end of the class; everything else of ``Backend`` is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opsq.core.backends.base import Capabilities, Kind
from opsq.core.backends.polling import Pace, Polling
from opsq.errors import BackendUnavailable

_IDS_PER_STEP: Final = 500
_LONGEST_REASON: Final = 300


class PolledBackend(ABC):
    """A result store that is asked, and asked again.

    name: the store in messages, without secrets. faults: what its client raises when the store does not do
    what it should. pace: how often a waiter looks.
    Thread: any; a forked child connects anew.
    """

    def __init__(
        self, name: str, capabilities: Capabilities, faults: tuple[type[Exception], ...], pace: Pace | None = None
    ) -> None:
        self._name = name
        self._capabilities = capabilities
        self._faults = faults
        self._pace = pace or Pace()

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return self._capabilities

    def put(self, kind: Kind, id: str, payload: bytes, *, state: str, ttl_s: float | None) -> bool:
        """Store ``payload`` unless a SUCCESS is there."""
        with self._translated():
            return self._write(kind, id, payload, state, ttl_s)

    def get(self, kind: Kind, id: str) -> bytes | None:
        """Read one entry, or none."""
        return self.get_many(kind, [id]).get(id)

    def get_many(self, kind: Kind, ids: Sequence[str]) -> dict[str, bytes]:
        """Read several entries; missing ids are absent."""
        found: dict[str, bytes] = {}
        with self._translated():
            for part in _parts(ids):
                found.update(self._read(kind, part))
        return found

    def forget(self, kind: Kind, ids: Iterable[str]) -> None:
        """Delete entries."""
        with self._translated():
            for part in _parts(list(ids)):
                self._delete(kind, part)

    def subscribe(self, ids: Sequence[str]) -> Polling:
        """Ask to be told when one of these changes."""
        return Polling(self._look, ids, self._pace)

    def cleanup(self, now: float) -> int:
        """Delete what expired before ``now``; how many, as far as the store says."""
        with self._translated():
            return self._sweep(now)

    def close(self) -> None:  # noqa: B027  # a store may hold no connection
        """Let go of connections."""

    def _look(self, ids: Sequence[str]) -> Mapping[str, object]:
        found: dict[str, object] = {}
        with self._translated():
            for part in _parts(ids):
                found.update(self._marks(part))
        return found

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._faults as error:
            raise BackendUnavailable(f"result store {self._name}: {reason(error)}") from error

    # ---- the steps of a store

    @abstractmethod
    def _write(self, kind: Kind, id: str, payload: bytes, state: str, ttl_s: float | None) -> bool:
        """Keep one entry; false when a SUCCESS was kept instead."""

    @abstractmethod
    def _read(self, kind: Kind, ids: Sequence[str]) -> Mapping[str, bytes]:
        """The entries that are there, by id."""

    def _marks(self, ids: Sequence[str]) -> Mapping[str, object]:
        """Something of each task's entry that differs when the entry does; the entry itself where that is no dearer."""
        return self._read("task", ids)

    @abstractmethod
    def _delete(self, kind: Kind, ids: Sequence[str]) -> None:
        """Forget these entries; those that are not there are no error."""

    def _sweep(self, now: float) -> int:
        return 0


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_PER_STEP):
        yield ids[start : start + _IDS_PER_STEP]


def reason(error: Exception) -> str:
    """What a client's error says, in one line: many add their whole state, or advice, below or behind."""
    cause = getattr(error, "orig", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    return said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}…"
