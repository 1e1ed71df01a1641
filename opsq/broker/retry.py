"""How often and how soon something is tried again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from opsq.errors import ConfigError, Fault

_FIELDS = ("max_retries", "interval_start", "interval_step", "interval_max")


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """When to try again: Celery's fields, plus jitter.

    max_retries: tries after the first one; ``None`` for no end. interval_start, interval_step,
    interval_max: seconds before the first retry, added for each later one, and at most. jitter:
    share of each interval that is drawn at random, so that many clients do not come back at once.
    Source: celery-protocol.md A.12, publish retry.
    """

    max_retries: int | None = 3
    interval_start: float = 0.0
    interval_step: float = 0.2
    interval_max: float = 1.0
    jitter: float = 0.2

    def intervals(self) -> Iterator[float]:
        """Yield the seconds to wait before each retry."""
        tries = 0
        while self.max_retries is None or tries < self.max_retries:
            wait = min(self.interval_start + tries * self.interval_step, self.interval_max)
            yield wait * (1.0 - self.jitter * random.random())
            tries += 1


NO_RETRY = RetryPolicy(max_retries=0)


def retry_policy(options: Mapping[str, Any] | None) -> RetryPolicy:
    """Build a policy from Celery's ``task_publish_retry_policy`` mapping.

    Raises: ConfigError naming every field that is unknown or not a number ≥ 0.
    """
    if options is None:
        return RetryPolicy()
    known = {**dict.fromkeys(_FIELDS), "retry_errors": None, "errback": None, "callback": None}
    faults = [
        Fault(f"retry policy: {key!r} is not known", remedy=f"use {', '.join(_FIELDS)}")
        for key in options
        if key not in known
    ]
    values: dict[str, Any] = {}
    for key in _FIELDS:
        if key not in options:
            continue
        value = options[key]
        unlimited = key == "max_retries" and value is None
        if not unlimited and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
            faults.append(Fault(f"retry policy: {key} must be a number ≥ 0, got {value!r}"))
        values[key] = value
    if faults:
        raise ConfigError(faults)
    return RetryPolicy(**values)
