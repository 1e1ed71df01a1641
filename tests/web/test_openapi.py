"""The description of the API is true, and no request that it allows makes the monitor fail."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from opsq.web.app import create_app
from opsq.web.openapi import PREFIX
from opsq.web.routes import ROUTES
from tests.web.conftest import Get, client
from tests.web.world import World

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis

SKIPPED = {"api-events"}
"""A stream has no end to wait for."""
EXAMPLES = 12


@pytest.fixture(scope="module")
def described(get: Get) -> dict[str, Any]:
    found: dict[str, Any] = get("/api/v1/openapi.json").json()
    return found


def test_every_route_of_the_api_is_described(described: dict[str, Any]) -> None:
    told = {operation["operationId"] for methods in described["paths"].values() for operation in methods.values()}
    assert told == {route.name for route in ROUTES if route.path.startswith(PREFIX)}
    assert described["openapi"] == "3.1.0"
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["x-permission"]
            assert operation["summary"].endswith(".")


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    known = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key == "$ref":
                    yield inner
                else:
                    yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    assert set(references(described)) <= known


def test_the_page_tells_the_same(get: Get, described: dict[str, Any]) -> None:
    page = get("/api").text
    for path in described["paths"]:
        assert path in page


@pytest.mark.filterwarnings("ignore")
def test_nothing_it_allows_makes_the_monitor_fail(described: dict[str, Any], world: World) -> None:
    """schemathesis makes the requests; none may be answered with 5xx, every error has the one shape."""
    app: Starlette = create_app(world.deps())
    get = client(world)  # of its own: it uses up what a visitor may export
    schema = schemathesis.openapi.from_dict(described)
    schema.app = app
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.definition.raw["operationId"] in SKIPPED:
            continue

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def no_failure(case: Any) -> None:
            nonlocal tried
            tried += 1
            path = case.formatted_path
            answer = get(path, method=case.method, params=case.query or {}, **body_of(case))
            assert answer.status_code < 500, (case.method, path, case.query, answer.text[:300])
            if answer.status_code >= 400 and "outcome" not in answer.json():
                assert set(answer.json()["error"]) == {"status", "message", "reference"}

        no_failure()
    assert tried > 200


def body_of(case: Any) -> dict[str, Any]:
    """The body that schemathesis thought of."""
    if case.method == "GET" or type(case.body).__name__ == "NotSet":
        return {}
    return {"content": json.dumps(case.body).encode(), "headers": {"content-type": "application/json"}}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_nonsense_makes_it_fail(described: dict[str, Any], world: World, method: str) -> None:
    """Beside what the description allows: any bytes for a body, any text in a query."""
    get = client(world)
    paths = [path for path, methods in described["paths"].items() if method.lower() in methods and "events" not in path]

    @given(path=st.sampled_from(paths), id=st.text(min_size=1, max_size=20), body=st.binary(max_size=60), q=st.text())
    @settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def no_failure(path: str, id: str, body: bytes, q: str) -> None:
        from_text = id.encode("utf-8", "replace").decode().replace("/", "").replace(".", "x") or "x"
        url = path.replace("{id}", from_text).replace("{verb}", "retry")
        url = "".join(c if c.isascii() and c.isprintable() and c not in " ?#%" else "%C3%A4" for c in url)
        query = {name: q.encode("utf-8", "replace").decode() for name in ("q", "before", "limit", "range")}
        headers = {"content-type": "application/json"}
        answer = get(url, method=method, params=query, content=body if method == "POST" else None, headers=headers)
        assert answer.status_code < 500, (url, answer.text[:300])

    no_failure()
