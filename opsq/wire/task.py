"""A task message, whole: headers, body, both protocols. The names other packages import.

``task_headers`` and ``task_body`` hold the two halves, ``protocol1`` the older form.
"""

from __future__ import annotations

from opsq.wire.protocol1 import decode_message, decode_protocol1
from opsq.wire.saferepr import saferepr
from opsq.wire.task_body import NO_EMBED, Embed, TaskBody, decode_body, encode_body
from opsq.wire.task_headers import TaskHeaders, headers_to_wire, is_protocol2, parse_headers

__all__ = [
    "NO_EMBED",
    "Embed",
    "TaskBody",
    "TaskHeaders",
    "decode_body",
    "decode_message",
    "decode_protocol1",
    "encode_body",
    "headers_to_wire",
    "is_protocol2",
    "parse_headers",
    "saferepr",
]
