"""Loggers of tasks, under the name that Celery's module of this name has."""

from __future__ import annotations

from opsq.logs import get_task_logger

__all__ = ["get_task_logger"]
