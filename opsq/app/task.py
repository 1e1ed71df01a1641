"""The task class and its request, under the names that Celery's module of this name has."""

from __future__ import annotations

from opsq.core.request import Context
from opsq.core.task import Task

__all__ = ["Context", "Task"]
