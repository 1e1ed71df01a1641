"""Celery's module of this name, as far as user code imports from it."""

from __future__ import annotations

from opsq.core.origin import new_id as uuid

__all__ = ["uuid"]
