"""The one place where a request is let through: who asks, may they, not too often, and is it really their browser."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

from opsq.errors import ConfigError
from opsq.web.access.door import NOBODY_NEEDED, STRANGER, Door, TooManyTries, Visitor
from opsq.web.access.limits import EXPORT, WRITE, Limiter
from opsq.web.access.permissions import PUBLIC

log = logging.getLogger("opsq.web")

COOKIE: Final = "opsq_session"
SECURE_COOKIE: Final = "__Host-opsq_session"
STREAMS_EACH: Final = 10


@dataclass(frozen=True, slots=True)
class Need:
    """What a route asks for. permission: a name of ``PERMISSIONS`` or ``none``. kind: as in the route table."""

    permission: str
    kind: str
    writes: bool
    export: bool = False


class Gate:
    """Checks requests. Thread: the event loop's."""

    def __init__(self, door: Door, limiter: Limiter, prefix: str = "") -> None:
        self._door = door
        self._limiter = limiter
        self._prefix = prefix
        self._streams: Counter[str] = Counter()

    async def admit(self, request: Request, need: Need) -> Visitor:
        """Let a request through. Raises HTTPException 303 (a page, to sign in), 401, 403, 429 or 503."""
        visitor = await self.recognise(request)
        if need.permission == PUBLIC:
            return visitor or STRANGER
        if visitor is None:
            raise self._sign_in_first(request, need)
        request.state.visitor = visitor
        if need.permission not in visitor.grants:
            raise HTTPException(403, f"{visitor.name} may not do this: it needs the permission {need.permission!r}")
        if need.writes:
            self._check_browser(request, visitor)
            self._check_rate(visitor, "write")
        if need.export:
            self._check_rate(visitor, "export")
        return visitor

    def limited(self, visitor: Visitor, parts: AsyncIterator[str]) -> AsyncIterator[str]:
        """Give a stream that counts among those of its visitor while it is open. Raises HTTPException 429.

        On an open page everybody is the same visitor, so nobody is counted there.
        """
        if visitor.how != "open" and self._streams[visitor.name] >= STREAMS_EACH:
            raise HTTPException(429, f"At most {STREAMS_EACH} open pages of one account are kept current")
        return self._counted(visitor, parts)

    async def _counted(self, visitor: Visitor, parts: AsyncIterator[str]) -> AsyncIterator[str]:
        self._streams[visitor.name] += 1
        try:
            async for part in parts:
                yield part
        finally:
            self._streams[visitor.name] -= 1
            self._streams += Counter()  # forget those with none

    def worth_noting(self, request: Request, error: HTTPException) -> bool:
        """Tell whether a refusal belongs into the audit: somebody known was not allowed, and not every second again."""
        visitor: Visitor | None = getattr(request.state, "visitor", None)
        if visitor is None or error.status_code != 403:
            return False
        return not self._limiter.take("refusal", visitor.name, WRITE)

    async def recognise(self, request: Request) -> Visitor | None:
        """Find out who asks, none when they did not say. Raises HTTPException 429, 503."""
        if self._door.open:
            return NOBODY_NEEDED
        authorization = request.headers.get("authorization", "")
        cookie = request.cookies.get(SECURE_COOKIE) or request.cookies.get(COOKIE) or ""
        try:
            if authorization:
                return await run_in_threadpool(self._door.by_header, authorization, address_of(request))
            return await run_in_threadpool(self._door.by_cookie, cookie) if cookie else None
        except TooManyTries as error:
            raise too_many(error) from error
        except ConfigError as error:
            log.error("nobody is let in: %s", error)
            raise HTTPException(503, "The accounts cannot be read, so nobody is let in; the log says why") from error

    def _sign_in_first(self, request: Request, need: Need) -> HTTPException:
        if need.kind == "page" and not need.writes and "authorization" not in request.headers:
            path = request.url.path.removeprefix(self._prefix)
            back = path + (f"?{request.url.query}" if request.url.query else "")
            return HTTPException(303, headers={"Location": f"{self._prefix}/sign-in?{urlencode({'next': back})}"})
        # Basic is not offered to browsers: its dialog cannot be signed out of, and sends the password for ever.
        offer = 'Bearer realm="opsq"' if need.kind in ("page", "live") else 'Basic realm="opsq", Bearer realm="opsq"'
        return HTTPException(401, "Sign in first, or send a token", headers={"WWW-Authenticate": offer})

    def _check_browser(self, request: Request, visitor: Visitor) -> None:
        if visitor.how != "session":
            return
        # The guard has refused what says it comes from elsewhere; a browser that says nothing is refused here,
        # because its cookie may have been sent by any page.
        if "sec-fetch-site" not in request.headers and "origin" not in request.headers:
            raise HTTPException(403, "The browser does not say which page sent this; use one from the last five years")

    def _check_rate(self, visitor: Visitor, kind: str) -> None:
        allowed = EXPORT if kind == "export" else WRITE
        wait = self._limiter.take(kind, visitor.name, allowed)
        if wait:
            raise HTTPException(
                429, f"At most {allowed.most} in {allowed.window_s:.0f} s; wait {math.ceil(wait)} s",
                headers={"Retry-After": str(math.ceil(wait))},
            )  # fmt: skip


def too_many(error: TooManyTries) -> HTTPException:
    """Answer somebody who guesses."""
    wait = str(math.ceil(error.wait_s))
    return HTTPException(429, f"Too many failed sign-ins; wait {wait} s", headers={"Retry-After": wait})


def address_of(request: Request) -> str:
    """The asker's address; behind a proxy that is trusted, the one it names."""
    return request.client.host if request.client else "unknown"


def local_target(wanted: str) -> str:
    """Where to go after signing in: a path of ours, never another site's."""
    plain = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and "\\" not in wanted
    return wanted if plain and wanted.isprintable() else "/"
