"""The names under which Celery keeps results in stores of keys and values.

Source: celery-protocol D.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opsq.core.backends.base import Kind
from opsq.settings import Settings

PREFIXES: Final[Mapping[Kind, str]] = {"task": "celery-task-meta-", "group": "celery-taskset-meta-"}
_SEPARATORS: Final = ":_-."


def key_prefix(settings: Settings) -> str:
    """What is put before every key: ``global_keyprefix``, with an underscore unless it ends in a separator."""
    prefix = str(settings.result_backend_transport_options.get("global_keyprefix", "") or "")
    return prefix if not prefix or prefix[-1] in _SEPARATORS else f"{prefix}_"


def key_of(kind: Kind, id: str, prefix: str = "") -> str:
    """The key of an entry."""
    return f"{prefix}{PREFIXES[kind]}{id}"
