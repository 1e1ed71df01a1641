"""Times on the wire: ISO 8601 text, and what a missing offset means.

Source: Celery protocol, section "Times".
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from opsq.errors import MalformedMessage


def parse_time(text: str, path: str = "$", naive_zone: tzinfo = UTC) -> datetime:
    """Read an ETA or expiry as an aware datetime; text without offset means ``naive_zone``.

    Raises: MalformedMessage.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise MalformedMessage(f"expected an ISO 8601 time, got {str(text)[:60]!r}", path) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=naive_zone)


def parse_epoch(text: str, path: str = "$", naive_zone: tzinfo = UTC) -> float:
    """Read an ETA or expiry as epoch seconds. Raises: MalformedMessage."""
    moment = parse_time(text, path, naive_zone)
    try:
        return moment.timestamp()
    except (OverflowError, ValueError):
        raise MalformedMessage(f"time out of range: {text[:60]!r}", path) from None
