"""Handles of results, under the names that Celery's module of this name has."""

from __future__ import annotations

from opsq.core.eager import EagerResult
from opsq.core.request import allow_join_result, denied_join_result
from opsq.core.result import AsyncResult
from opsq.core.result_set import GroupResult, ResultSet, result_from_tuple

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultSet",
    "allow_join_result",
    "denied_join_result",
    "result_from_tuple",
]
