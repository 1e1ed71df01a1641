"""Moments that a test can wait for instead of sleeping; nothing at all in production."""

from __future__ import annotations

from collections.abc import Callable

Probe = Callable[[str, str, object], None] | None
"""probe(moment, task id, detail): moments are ``received``, ``started``, ``settled``, ``ready``."""
