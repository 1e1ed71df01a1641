"""Where results that are messages go when no running task says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

ADDRESS: Final[ContextVar[str | None]] = ContextVar("reply_to", default=None)


@contextmanager
def addressed(reply_to: str | None) -> Iterator[None]:
    """Within the block, results of tasks that do not run here go to this address."""
    token = ADDRESS.set(reply_to)
    try:
        yield
    finally:
        ADDRESS.reset(token)
