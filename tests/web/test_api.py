"""The JSON API, read as programs read it."""

from __future__ import annotations

from opsq.web.routes import ROUTES
from tests.web.conftest import Get
from tests.web.world import World


def test_every_route_answers(get: Get, world: World) -> None:
    task = world.query.tasks().items[0].id
    for route in ROUTES:
        assert route.summary.endswith(".")
        if route.method != "GET" or route.kind == "live" or route.name == "sign-in":
            continue
        path = route.path.replace("{id:path}", known_id(route.path, task, world)).replace("{file:path}", "app.js")
        path = path.replace("{verb}", "retry").replace("{id}", "j-none")
        target = known_id("/errors" if path.startswith("/act/error-") else "", task, world)
        path += f"?target={target}" if path.startswith("/act/") else "?q=state:failed" if "/bulk/" in path else ""
        if route.name == "schedule":
            continue  # nobody here keeps a schedule
        missing = {"act-outcome": 404, "bulk-job": 404, "api-job": 404, "api-messages": 409, "api-quarantine": 409}
        expected = 409 if route.name.startswith("api-look-") else missing.get(route.name, 200)
        assert get(path).status_code == expected, path  # the 409s: no broker here


def known_id(path: str, task: str, world: World) -> str:
    """Something of which the world knows, for the kind of thing that a path is about."""
    kinds = {
        "workers": lambda: world.query.workers()[0].name,
        "queues": lambda: "mail",
        "types": lambda: "shop.mail.newsletter_batch",
    }
    part = path.removeprefix("/api/v1").strip("/").partition("/")[0]
    if part == "errors":
        return str(world.views.errors()[0].fault)
    return kinds[part]() if part in kinds else task


def test_names_and_places_of_routes_are_unique() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_overview_counts_add_up(get: Get, world: World) -> None:
    found = get("/api/v1/overview").json()
    counts = found["counts"]
    assert counts["executed"] == counts["succeeded"] + counts["failed"] > 0
    assert counts["seen"] == sum(found["states"].values()) == world.query.overview().tasks_kept
    assert counts["retried"] > 0
    assert counts["lost"] == 0
    assert {queue["name"] for queue in found["queues"]} >= {"reports", "images", "mail"}


def test_tasks_page_through_the_whole_history(get: Get) -> None:
    seen: list[str] = []
    before = ""
    while before is not None and len(seen) < 300:
        found = get(f"/api/v1/tasks?q=queue:mail&before={before}").json()
        seen += [task["id"] for task in found["tasks"]]
        before = found["older"]
    assert len(seen) == len(set(seen)) == 300
    assert found["facets"]["state"]


def test_a_search_line_that_cannot_be_read_is_an_error_for_programs(get: Get) -> None:
    answer = get("/api/v1/tasks?q=stte:failed")
    assert answer.status_code == 400
    assert "did you mean state:" in answer.json()["error"]["message"]


def test_a_task_comes_with_its_tries(get: Get, world: World) -> None:
    task = world.query.tasks().items[40].id
    found = get(f"/api/v1/tasks/{task}").json()["task"]
    assert found["item"]["id"] == task
    assert found["tries"][0]["number"] == 1
