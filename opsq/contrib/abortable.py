"""Abortable tasks, under the name that Celery's module of this name has."""

from __future__ import annotations

from opsq.core.abortable import ABORTED, AbortableAsyncResult, AbortableTask

__all__ = ["ABORTED", "AbortableAsyncResult", "AbortableTask"]
