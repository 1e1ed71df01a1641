"""What a request carries, read with a limit: a form or a JSON document."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

MAX_BYTES: Final = 1024 * 1024
_MAX_FIELDS: Final = 2000
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"


async def read_body(request: Request) -> bytes:
    """Read the whole body. Raises HTTPException 413 as soon as it is longer than a megabyte."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BYTES:
            raise HTTPException(413, f"The request carries more than {MAX_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def media_type(request: Request) -> str:
    """The type of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_form(request: Request) -> dict[str, list[str]]:
    """Read the fields of a form. Raises HTTPException 400, 413, 415."""
    if media_type(request) != FORM:
        raise HTTPException(415, f"Send this as {FORM}")
    try:
        return parse_qs(
            (await read_body(request)).decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise HTTPException(400, f"The form cannot be read: {error}") from error


async def read_json(request: Request) -> dict[str, Any]:
    """Read a JSON object; an empty body is an empty object. Raises HTTPException 400, 413, 415."""
    body = await read_body(request)
    if not body:
        return {}
    if media_type(request) != JSON:
        raise HTTPException(415, f"Send this as {JSON}")
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise HTTPException(400, f"The body is not a JSON object: {error}") from error
