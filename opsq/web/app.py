"""The application: routes bound, guarded and compressed. Built once, by ``monitor.py`` or a test."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from opsq.web.access.door import STRANGER
from opsq.web.assets import Assets
from opsq.web.deps import Deps
from opsq.web.errors import ErrorView, as_json, describe
from opsq.web.handlers import Handlers
from opsq.web.render import Renderer
from opsq.web.routes import ROUTES, described
from opsq.web.security import Guard
from opsq.web.view_common import Ask
from opsq.web.view_shell import shell

_COMPRESS_FROM_BYTES = 1024


class StripPrefix:
    """ASGI middleware: takes the proxy's path prefix off, and serves as well when the proxy already did."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request below the prefix."""
        if scope["type"] == "http" and self._prefix:
            path: str = scope["path"]
            if path == self._prefix or path.startswith(self._prefix + "/"):
                scope = {**scope, "path": path[len(self._prefix) :] or "/", "raw_path": None}
        await self._app(scope, receive, send)


def create_app(deps: Deps) -> Starlette:
    """Build the application. Raises OpsqError when static files are missing."""
    assets = Assets.load()
    renderer = Renderer(assets, deps.places)
    handlers = Handlers(deps, assets, renderer, described())
    routes = [
        Route(spec.path, spec.bind(handlers, deps.gate), methods=[spec.method], name=spec.name) for spec in ROUTES
    ]

    async def on_error(request: Request, exc: Exception) -> Response:
        headers = dict(getattr(exc, "headers", None) or {})
        if isinstance(exc, HTTPException) and exc.status_code == 303:
            return Response(status_code=303, headers=headers)
        view = describe(exc, request, deps.places)
        if request.url.path.removeprefix(deps.places.prefix).startswith("/api/"):
            return as_json(view, headers)
        return HTMLResponse(_error_page(view, request, deps, renderer), status_code=view.status, headers=headers)

    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, allowed_hosts=deps.allowed_hosts),
            Middleware(StripPrefix, prefix=deps.places.prefix),
            Middleware(GZipMiddleware, minimum_size=_COMPRESS_FROM_BYTES),
        ],
        exception_handlers={HTTPException: on_error, Exception: on_error},
    )


def _error_page(view: ErrorView, request: Request, deps: Deps, renderer: Renderer) -> str:
    now = deps.clock.now()
    visitor = getattr(request.state, "visitor", STRANGER)
    surroundings = shell(view.heading, None, Ask("", visitor), deps.here, deps.places, live="", now=now)
    return renderer.write("pages/error.html", {"shell": surroundings, "view": view, "now": now})
