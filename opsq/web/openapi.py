"""The description of the API, OpenAPI 3.1, made from the route table, the acts' fields and the answers' records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from opsq.web.access.permissions import PERMISSIONS, PUBLIC
from opsq.web.act_fields import LONGEST_TEXT, Field
from opsq.web.act_records import Act
from opsq.web.acting import CONFIRM, Did
from opsq.web.errors import ErrorEnvelope
from opsq.web.view_common import LONGEST_LIST
from opsq.web.view_range import RANGES

PREFIX: Final = "/api/v1"
JSON: Final = "application/json"
QUERIES: Final[Mapping[str, dict[str, Any]]] = {
    "q": {"description": "Search line, as on the page of tasks.", "schema": {"type": "string", "maxLength": 2000}},
    "before": {"description": "`older` of the page before.", "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"}},
    "limit": {"description": "Rows at most.", "schema": {"type": "integer", "minimum": 1, "maximum": LONGEST_LIST}},
    "id": {
        "description": "Of these tasks alone.",
        "schema": {"type": "array", "items": {"type": "string"}, "maxItems": 1000},
    },
    "group": {"description": "Of this scaling group.", "schema": {"type": "string", "maxLength": 256}},
    "range": {"description": "Stretch of time.", "schema": {"type": "string", "enum": [each.key for each in RANGES]}},
}
"""What may stand in a query string; routes name theirs."""
_KINDS: Final[Mapping[str, dict[str, Any]]] = {
    "text": {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT},
    "choice": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "time": {"description": "seconds, or text such as 90s, 5m, 2h", "type": ["number", "string"]},
    "flag": {"type": "boolean"},
    "list": {"type": "array", "items": {}},
    "object": {"type": "object"},
}
_BULK: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "q": {"type": "string", "maxLength": 2000, "description": "Search line: everything under it is meant."},
        "ids": {"type": "array", "maxItems": 1000, "items": {"type": "string"}, "description": "Or these tasks."},
        "until": {"type": ["integer", "null"], "minimum": 0, "description": "Of a preview: nothing newer is meant."},
        "per_s": {
            "type": ["number", "null"],
            "minimum": 0.1,
            "maximum": 10_000,
            "description": "Tasks a second, at most.",
        },
    },
}


class Described(msgspec.Struct, frozen=True):
    """A route as the description needs it. answer: a record, or a media type for anything but JSON."""

    method: str
    path: str
    name: str
    permission: str
    summary: str
    query: tuple[str, ...] = ()
    answer: Any = None
    act: Act | None = None


def document(routes: Iterable[Described], version: str, prefix: str) -> dict[str, Any]:
    """Build the description. prefix: path that a proxy puts before ours."""
    found = list(routes)
    records = [each.answer for each in found if each.answer is not None and not isinstance(each.answer, str)]
    _, components = msgspec.json.schema_components(
        [*dict.fromkeys(records), Did, ErrorEnvelope], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for each in found:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", each.path)
        paths.setdefault(path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "opsq monitor",
            "version": version,
            "description": "Times are epoch seconds, lengths are seconds, what is unknown is null. "
            "Permissions: " + " ".join(f"`{each.name}`: {each.doc}" for each in PERMISSIONS),
        },
        "servers": [{"url": prefix or "/"}],
        "security": [{"token": []}, {"password": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"}, "password": {"type": "http", "scheme": "basic"},
            },
        },
    }  # fmt: skip


def _operation(route: Described) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.path.removeprefix(PREFIX).strip("/").partition("/")[0].partition(".")[0]],
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
                for name in re.findall(r"\{(\w+)", route.path)
            ),
            *({"name": name, "in": "query", **QUERIES[name]} for name in route.query),
        ],
        "responses": _responses(route),
        "x-permission": route.permission,
    }
    if route.permission == PUBLIC:
        made["security"] = []
    if route.act is not None:
        made["requestBody"] = {"required": False, "content": {JSON: {"schema": body_schema(route.act)}}}
    elif "/bulk/" in route.path:
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": _BULK}}}
    return made


def _responses(route: Described) -> dict[str, Any]:
    if isinstance(route.answer, str):
        content: dict[str, Any] = {route.answer: {"schema": {"type": "string"}}}
    elif route.answer is None:
        content = {JSON: {"schema": {"type": "object"}}}
    else:
        content = {JSON: {"schema": _ref(route.answer)}}
    good = "202" if route.name == "api-bulk" else "200"
    found: dict[str, Any] = {good: {"description": "The answer.", "content": content}}
    errors = {
        "400": "The request cannot be read.", "401": "Sign in, or send a token.", "403": "Not allowed.",
        "404": "Not here.", "429": "Too many, too fast.", "503": "The history or the broker does not answer.",
    }  # fmt: skip
    if route.act is not None:
        errors |= {"413": "Too long.", "415": "Not JSON.", "422": "A field cannot be taken."}
        did = {JSON: {"schema": _ref(Did)}}
        found["409"] = {"description": "Not possible now; nothing was done.", "content": did}
        found["502"] = {"description": "The fleet did not do it, or did not answer.", "content": did}
    elif route.path.endswith(("/messages", "/quarantine")) or "/bulk/" in route.path:
        errors["409"] = "This monitor only watches."
    if "/bulk/" in route.path:
        errors |= {"409": "Not now.", "413": "Too long.", "415": "Not JSON.", "422": "It cannot be meant so."}
    shape = {JSON: {"schema": _ref(ErrorEnvelope)}}
    return found | {status: {"description": text, "content": shape} for status, text in errors.items()}


def _ref(record: Any) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{record.__name__}"}


def body_schema(act: Act) -> dict[str, Any]:
    """The schema of the fields of an act."""
    properties = {field.name: _field_schema(field) for field in act.fields}
    required = [field.name for field in act.fields if field.required and field.default is None]
    if act.typed:
        properties[CONFIRM] = {"type": "string", "description": f"The name of the {act.of} again."}
        required.append(CONFIRM)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _field_schema(field: Field) -> dict[str, Any]:
    schema = {**_KINDS[field.kind], "title": field.label}
    if field.doc:
        schema["description"] = "; ".join(text for text in (field.doc, str(schema.get("description", ""))) if text)
    if field.choices:
        schema["enum"] = list(field.choices)
    if field.default is not None:
        schema["default"] = field.default
    if field.kind in ("integer", "number", "time"):
        schema["minimum"] = field.least
        if field.most != float("inf"):
            schema["maximum"] = field.most
    return schema
