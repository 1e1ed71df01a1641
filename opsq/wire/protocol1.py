"""Whole task messages of either protocol, and of the hybrid that Celery also accepts.

In protocol 1 one object holds everything, and there are no headers but the caller's own; in the
hybrid the body is such an object and headers override it. Source: Celery protocol, sections
"Protocol 1" and "Protocol 2: body".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from opsq.errors import MalformedMessage
from opsq.wire.content import JSON_MIME
from opsq.wire.limits import DEFAULT_LIMITS, Limits
from opsq.wire.saferepr import saferepr
from opsq.wire.task_body import TaskBody, body_of_array, body_of_object, decode_usual_body, load_document
from opsq.wire.task_headers import TaskHeaders, is_protocol2, parse_headers

_COPIED = ("task", "id", "group", "group_index", "retries", "eta", "expires", "timelimit")
#: User header that says a naive ETA is in the application's zone instead of UTC.
UTC_HEADER = "opsq_utc"


def decode_protocol1(
    data: bytes | str | memoryview,
    content_type: str | None,
    content_encoding: str | None,
    raw_headers: Mapping[str, object],
    properties: Mapping[str, object],
    *,
    accept: frozenset[str],
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[TaskHeaders, TaskBody]:
    """Read a protocol 1 message into the records of protocol 2.

    The reprs are made here, since the sender made none. ``utc: false`` arrives as the user header
    ``opsq_utc``. Raises: MalformedMessage, UntrustedContent, and nothing else.
    """
    compression: Any = raw_headers.get("compression")
    document = load_document(data, content_type, content_encoding, compression, accept=accept, limits=limits)
    return read_protocol1(document, raw_headers, properties)


def read_protocol1(
    document: object, raw_headers: Mapping[str, object], properties: Mapping[str, object]
) -> tuple[TaskHeaders, TaskBody]:
    """The same of a body that is decoded already. Raises: MalformedMessage."""
    if not isinstance(document, dict) or "task" not in document:
        raise MalformedMessage("unknown message: neither a header nor the body names a task")
    body = body_of_object(document)
    return headers_of_object(document, body, raw_headers, properties), body


def decode_message(
    data: bytes | str | memoryview,
    content_type: str | None,
    content_encoding: str | None,
    raw_headers: Mapping[str, object],
    properties: Mapping[str, object],
    *,
    accept: frozenset[str],
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[TaskHeaders, TaskBody]:
    """Read a task message of whichever protocol it is.

    Raises: MalformedMessage, UntrustedContent, and nothing else.
    """
    if not is_protocol2(raw_headers):
        return decode_protocol1(
            data, content_type, content_encoding, raw_headers, properties, accept=accept, limits=limits
        )
    compression: Any = raw_headers.get("compression")
    if not compression and content_type == JSON_MIME and content_type in accept:
        usual = decode_usual_body(data, limits)
        if usual is not None:
            return parse_headers(raw_headers), usual
    document = load_document(data, content_type, content_encoding, compression, accept=accept, limits=limits)
    if isinstance(document, dict):
        body = body_of_object(document)
        return headers_of_object(document, body, raw_headers, properties), body
    return parse_headers(raw_headers), body_of_array(document)


def headers_of_object(
    document: Mapping[Any, Any], body: TaskBody, raw_headers: Mapping[str, object], properties: Mapping[str, object]
) -> TaskHeaders:
    """Build headers from the fields of an object body; headers that were sent win. Raises: MalformedMessage."""
    fields: dict[str, object] = {name: document[name] for name in _COPIED if name in document}
    if document.get("taskset") is not None:
        fields["group"] = document["taskset"]
    if "id" not in fields and properties.get("correlation_id"):
        fields["id"] = properties["correlation_id"]
    fields.setdefault("argsrepr", saferepr(tuple(body.args)))
    fields.setdefault("kwargsrepr", saferepr(body.kwargs))
    if document.get("utc") is False:
        fields[UTC_HEADER] = False
    fields.update(raw_headers)
    headers = parse_headers(fields)
    if headers.root_id is None:
        return msgspec.structs.replace(headers, root_id=headers.id)
    return headers
