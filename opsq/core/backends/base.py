"""The protocol of a result store: bytes by kind and id, and being told when one changes.

A backend knows nothing of tasks: encoding is ``wire/result.py``, retries and expiry are decided by
``core/result_store.py``. What a backend cannot do it declares in its capabilities, and every
registered backend passes ``testing/contract_backend.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

from opsq.errors import UsageError

Kind = Literal["task", "group"]

SUCCESS = "SUCCESS"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do.

    counts: it can count chord parts by itself. expires: entries end by themselves, ``cleanup`` has
    nothing to do. notifies: waiters are woken, not polling. cross_process: other processes see it.
    atomic: of several writers at once one SUCCESS stays; elsewhere the state is read first, as Celery does.
    keeps: the documents byte for byte, or their fields in columns of Celery's. lifetimes: each entry has
    its own (``put``'s ``ttl_s``), or the store's settings and an entry's date say when it ends.
    counted_by_celery: Celery's workers count chord parts in the same place.
    """

    counts: bool
    expires: bool
    notifies: bool
    cross_process: bool
    atomic: bool = True
    keeps: Literal["bytes", "fields"] = "bytes"
    lifetimes: Literal["entry", "store"] = "entry"
    counted_by_celery: bool = True


class Subscription(Protocol):
    """Waiting for entries to change; a context manager that ends the wait.

    The subscription is in force when ``subscribe`` returns, so: subscribe, then read, then wait.
    """

    def wait(self, timeout_s: float) -> set[str] | None:
        """Block until an entry may have changed; the ids to read again, or none after ``timeout_s``.

        Raises: BackendUnavailable.
        Thread: one waiter per subscription.
        """
        ...

    def close(self) -> None:
        """Stop being told. Twice does no harm."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Backend(Protocol):
    """A result store. Thread: any, and usable in a forked child.

    Every method raises BackendUnavailable when the store does not answer.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        ...

    def put(self, kind: Kind, id: str, payload: bytes, *, state: str, ttl_s: float | None) -> bool:
        """Store ``payload``, atomically, unless a SUCCESS is already there.

        ttl_s: seconds to keep it; none means for ever.
        Returns: false when a SUCCESS was kept and ``payload`` dropped.
        """
        ...

    def get(self, kind: Kind, id: str) -> bytes | None:
        """Read one entry, or none."""
        ...

    def get_many(self, kind: Kind, ids: Sequence[str]) -> dict[str, bytes]:
        """Read several entries in one round trip; missing ids are absent."""
        ...

    def forget(self, kind: Kind, ids: Iterable[str]) -> None:
        """Delete entries; unknown ids are no error."""
        ...

    def subscribe(self, ids: Sequence[str]) -> Subscription:
        """Ask to be told when one of these tasks' entries changes."""
        ...

    def cleanup(self, now: float) -> int:
        """Delete what expired before ``now`` (epoch seconds); how many."""
        ...

    def close(self) -> None:
        """Let go of connections and threads. Twice does no harm; later use opens them again."""
        ...


class ResultsDisabled(UsageError, NotImplementedError):
    """A result was asked for and no result store is configured."""

    def __init__(self, what: str = "the result") -> None:
        super().__init__(
            f"{what} cannot be read: no result store is configured; set result_backend, "
            "for example result_backend = 'redis://localhost:6379/0' or 'sqlite:////var/lib/app/results.db'"
        )


class WaitScope:
    """The context manager half of a subscription; subclasses give ``close``."""

    def close(self) -> None:
        """Stop being told."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
