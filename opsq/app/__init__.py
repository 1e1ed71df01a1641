"""Celery's package of this name, as far as user code imports from it."""

from __future__ import annotations

from opsq.core.app import Opsq
from opsq.core.registry import PROCESS
from opsq.core.shared import shared_task

Celery = Opsq


def app_or_default(app: Opsq | None = None) -> Opsq:
    """Return ``app``, or the current one."""
    return app or PROCESS.current()


__all__ = ["Celery", "Opsq", "app_or_default", "shared_task"]
