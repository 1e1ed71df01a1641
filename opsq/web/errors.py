"""What a request gets when there is nothing to show: words for a person, JSON for a program."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from opsq.errors import Unavailable
from opsq.web.view_common import Link, Places

logger = logging.getLogger("opsq.web")

_HEADINGS: Final = {
    401: "Sign in first",
    403: "Not allowed",
    404: "Not here",
    405: "Not possible",
    429: "Too many, too fast",
    500: "The page could not be made",
    503: "No answer",
}


@dataclass(frozen=True, slots=True)
class ErrorView:
    """The page of an error. reference: what to look for in the log, empty when the reader is at fault."""

    status: int
    heading: str
    what: str
    text: str
    css: str
    icon: str
    reference: str
    links: tuple[Link, ...]


class ErrorBody(msgspec.Struct, frozen=True):
    """The error of an API request."""

    status: int
    message: str
    reference: str = ""


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """What an API request gets instead of its answer."""

    error: ErrorBody


def describe(exc: Exception, request: Request, places: Places) -> ErrorView:
    """Say what went wrong; a fault of ours is logged with the reference that the page shows."""
    links = (Link("Overview", places.to("/")), Link("Tasks", places.to("/tasks")))
    if isinstance(exc, HTTPException):
        what = exc.detail if exc.detail and exc.status_code != 404 else f"Nothing is at {request.url.path}"
        if exc.status_code == 404 and exc.detail not in ("", "Not Found"):
            what = exc.detail
        heading = _HEADINGS.get(exc.status_code, "Refused")
        advice = "Old tasks leave the history with its retention." if "task" in exc.detail else ""
        return ErrorView(exc.status_code, heading, what, advice, "unknown", "unknown", "", links)
    reference = "r-" + secrets.token_hex(3)
    logger.error("request %s %s failed, reference %s", request.method, request.url.path, reference, exc_info=exc)
    again = (Link("Try again", str(request.url.path)), *links)
    if isinstance(exc, Unavailable):
        return ErrorView(
            503, _HEADINGS[503], "The history did not answer", "This page needs it; live numbers may still work.",
            "failed", "failed", reference, again,
        )  # fmt: skip
    return ErrorView(
        500, _HEADINGS[500], "Something here is broken", "The fault is the monitor's, not your tasks'.",
        "failed", "failed", reference, again,
    )  # fmt: skip


def as_json(view: ErrorView, headers: Mapping[str, str]) -> Response:
    """Answer a program."""
    body = msgspec.json.encode(ErrorEnvelope(ErrorBody(view.status, view.what, view.reference)))
    return Response(body + b"\n", status_code=view.status, media_type="application/json", headers=dict(headers))
