"""A serializer: Apple's property lists, which carry dates and bytes as they are.

extra_serializers = ["examples.extend.serializer:PLIST"]
task_serializer = "plist"
result_serializer = "plist"
accept_content = ["plist", "json"]
"""

from __future__ import annotations

import plistlib
from typing import Any

from opsq.wire.content import Serializer
from opsq.wire.limits import Limits, check_shape

ABSENT = {"opsq": "none"}
"""Property lists know no None."""


def write(value: object) -> bytes:
    """As bytes; whatever this raises, the caller of the task is told."""
    return plistlib.dumps(_without_none(value), fmt=plistlib.FMT_BINARY)


def read(data: bytes, limits: Limits) -> object:
    """Back again; whatever this raises, the message counts as malformed."""
    value = _with_none(plistlib.loads(data, fmt=plistlib.FMT_BINARY))
    check_shape(value, limits)  # a peer may nest it a million deep
    return value


def _without_none(value: Any) -> Any:
    if value is None:
        return ABSENT
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items()}
    return [_without_none(each) for each in value] if isinstance(value, (list, tuple)) else value


def _with_none(value: Any) -> Any:
    if value == ABSENT:
        return None
    if isinstance(value, dict):
        return {key: _with_none(each) for key, each in value.items()}
    return [_with_none(each) for each in value] if isinstance(value, list) else value


PLIST = Serializer("plist", "application/x-plist", "binary", write, read)
