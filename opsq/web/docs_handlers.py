"""The API's description: for programs as OpenAPI, for people as a page made from the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from opsq.web.deps import Deps
from opsq.web.openapi import Described, document
from opsq.web.render import Renderer
from opsq.web.view_common import Ask
from opsq.web.view_shell import shell


@dataclass(frozen=True, slots=True)
class OperationView:
    """One operation. fields: (name, where and kind, words)."""

    id: str
    method: str
    path: str
    summary: str
    permission: str
    fields: tuple[tuple[str, str, str], ...]
    answers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DocsView:
    """The page. groups: operations by the first part of their path."""

    url: str
    groups: tuple[tuple[str, tuple[OperationView, ...]], ...]


class DocsHandlers:
    """Answers about the API. Thread: the event loop's."""

    def __init__(self, deps: Deps, renderer: Renderer, routes: Sequence[Described]) -> None:
        self._deps = deps
        self._renderer = renderer
        self._document = document(routes, deps.here.version, deps.places.prefix)
        self._json = msgspec.json.encode(self._document)
        self._view = docs_view(self._document, deps.places.to("/api/v1/openapi.json"))

    async def openapi(self, request: Request) -> Response:
        """Answer with the description."""
        return Response(self._json, media_type="application/json")

    async def page(self, request: Request) -> Response:
        """Answer with the page."""
        deps, now = self._deps, self._deps.clock.now()
        around = shell("API", None, Ask("api", request.state.visitor), deps.here, deps.places, live="", now=now)
        return HTMLResponse(self._renderer.write("pages/api.html", {"shell": around, "view": self._view, "now": now}))


def docs_view(described: dict[str, Any], url: str) -> DocsView:
    """Build the page from the description. Pure."""
    groups: dict[str, list[OperationView]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(path, method, operation))
    return DocsView(url, tuple((name, tuple(found)) for name, found in sorted(groups.items())))


def _operation(path: str, method: str, operation: dict[str, Any]) -> OperationView:
    fields = [
        (each["name"], f"{each['in']}, {_kind(each['schema'])}", each.get("description", ""))
        for each in operation["parameters"]
    ]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        needed = content["schema"].get("required", ())
        for name, schema in content["schema"]["properties"].items():
            must = "needed" if name in needed else "optional"
            fields.append((name, f"body, {_kind(schema)}, {must}", schema.get("description", "")))
    answers = tuple((status, each["description"]) for status, each in sorted(operation["responses"].items()))
    return OperationView(
        operation["operationId"], method.upper(), path, operation["summary"], operation["x-permission"], tuple(fields),
        answers,
    )  # fmt: skip


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    kind = schema.get("type", "any")
    return kind if isinstance(kind, str) else " or ".join(kind)
