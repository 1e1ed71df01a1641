"""Every page, as a browser without script sees it."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from opsq.events.search import of
from opsq.web import facts
from opsq.web.access.door import STRANGER
from opsq.web.pages import PAGES
from tests.web.conftest import Get, client
from tests.web.world import HOSTILE, NIGHT, SHOP, World

PATHS = (
    "/", "/?range=15m&p=99", "/?range=90d", "/tasks", "/tasks?q=state:failed", "/tasks?q=queue:images%20boom",
    "/workers", "/workers/opsq%40reports-2", "/workers/celery%40legacy-1", "/types", "/types?sort=name",
    "/types/shop.images.resize", "/queues", "/queues/reports", "/errors", "/errors/f1", "/workflows", "/quarantine",
    "/schedules", "/autoscale",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_whole_without_script(get: Get, path: str) -> None:
    answer = get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    text = answer.text
    assert text.count("<h1") == 1
    assert text.count('<main id="main">') == 1
    assert 'aria-current="page"' in text
    assert "</html>" in text
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids)), "an id stands twice, so morphing would hit the wrong element"


def test_navigation_shows_only_pages_that_exist(get: Get) -> None:
    nav = get("/").text.split('<nav aria-label="Main">')[1].split("</nav>")[0]
    links = re.findall(r'href="([^"]+)"', nav)
    expected = ["/", "/tasks", "/errors", "/workflows", "/queues", "/workers", "/types", "/schedules", "/autoscale"]
    assert [link for link in links if link != "/audit"] == expected
    assert all(get(link).status_code == 200 for link in links)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "schedule"], ids=lambda page: page.name)
def test_every_region_of_a_page_stands_in_it(get: Get, world: World, page: object) -> None:
    flow = next(flow.root for flow in world.views.workflows() if flow.members > 1)
    paths = {
        "overview": "/", "task": f"/tasks/{world.query.tasks().items[0].id}", "queue": "/queues/images",
        "worker": "/workers/opsq%40img-1", "type": "/types/shop.images.resize", "error": "/errors/f1",
        "workflow": f"/workflows/{flow}", "why": f"/why/{world.query.tasks().items[0].id}",
    }  # fmt: skip
    answer = get(paths.get(page.name, f"/{page.name}"))  # type: ignore[attr-defined]
    text = answer.text
    assert answer.status_code == 200
    for region in page.regions:  # type: ignore[attr-defined]
        assert f'id="{region.id}"' in text, f"{region.id} would never be updated"


def test_the_overview_opens_with_the_verdict(get: Get) -> None:
    text = get("/").text
    assert "<h1>1 queue is in trouble, 1 worker is late</h1>" in text
    assert "reports-2" in text
    assert "of its 1\u00a0min target" in text


def test_all_seven_figures_stand_on_every_page(get: Get) -> None:
    for path in PATHS:
        text = get(path).text
        tiles = re.findall(r'id="status-(\w+)"', text)
        assert tiles == ["running", "waiting", "oldest", "rate", "failed", "lag", "lost"]


def test_unknown_is_a_word_not_a_zero(get: Get) -> None:
    row = get("/workers").text.split(">celery@legacy-1<")[1].split("</tr>")[0]
    assert row.count("unknown") >= 3, "Celery tells neither processor nor memory nor numbers its events"


def test_a_task_opens_with_its_outcome(get: Get, world: World) -> None:
    failed = world.query.tasks(of(state="failed"), limit=1).items[0]
    text = get(f"/tasks/{failed.id}").text
    assert "UnidentifiedImageError" in text.split("</h1>")[1].split("</p>")[0]
    assert "on the third try" in text
    assert '<span class="hit">' in text
    assert text.count("pause</text>") == 2


def test_a_pasted_id_leads_to_its_task(get: Get, world: World) -> None:
    task = world.query.tasks().items[0].id
    answer = get(f"/tasks?q={task}")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/tasks/{task}"


def test_the_list_pages_by_key(get: Get, world: World) -> None:
    first = get("/tasks").text
    older = re.search(r'href="(/tasks\?before=\d+)" rel="next"', first)
    assert older is not None
    second = get(older[1]).text
    rows = [set(re.findall(r'<tr id="(t-\w+)"', text)) for text in (first, second)]
    assert len(rows[0]) == len(rows[1]) == 50
    assert not rows[0] & rows[1]
    assert "Newest</a>" in second
    assert 'id="live"' not in second, "an old page must not move"


def test_a_faulty_term_is_named_and_the_others_hold(get: Get) -> None:
    text = get("/tasks?q=queue:images stte:failed").text
    assert "Position 14" in text
    assert "did you mean state:" in text
    assert "<i>queue:</i>images" in text
    assert "mail.order_confirmation" not in text.split('<tbody id="rows">')[1]


def test_filtered_away_says_which_term_to_drop(get: Get) -> None:
    text = get("/tasks?q=queue:mail type:nothing").text
    assert "No task matches" in text
    assert "without type" in text


def test_empty_says_what_to_do() -> None:
    ask = client(World())
    assert "Nothing has been seen yet" in ask("/").text
    assert "No worker has been seen" in ask("/workers").text
    assert "No task has been seen" in ask("/tasks").text
    assert "opsq worker -A your_app" in ask("/workers").text


def test_a_broker_that_is_away_is_said_on_every_page() -> None:
    world = World()
    world.connected = False
    ask = client(world)
    for path in ("/", "/tasks", "/workers"):
        text = ask(path).text
        assert "The broker cannot be heard since" in text
        assert "connection refused" in text
    assert ask("/readyz").status_code == 503
    assert ask("/healthz").status_code == 200


def test_hostile_text_never_becomes_markup() -> None:
    world = World()
    kind = SHOP[0]
    world.tell("worker-heartbeat", "img-1", NIGHT, freq=2.0, queues=[HOSTILE], pool=HOSTILE, sw_ident=HOSTILE, slots=1)
    for number, event in enumerate(("task-sent", "task-received", "task-started", "task-failed")):
        world.tell(
            event, "img-1", NIGHT + number, "id/" + HOSTILE, name=HOSTILE, args=HOSTILE, kwargs=HOSTILE, queue=HOSTILE,
            exception=HOSTILE, traceback=HOSTILE, root_id=HOSTILE, parent_id=HOSTILE, eta=HOSTILE, routing_key=HOSTILE,
            retries=0, attempt=1, published_at=NIGHT,
        )  # fmt: skip
    world.run(kind, NIGHT)
    world.step(10)
    ask = client(world)
    task = world.query.tasks(of(state="failed")).items[0]
    from_task = "/tasks/" + quote(task.id, safe="")
    named = quote(HOSTILE, safe="")
    fault = quote(world.views.errors()[0].fault, safe="")
    for path in (
        "/", "/tasks", from_task, "/workers", "/types", f"/tasks?q={HOSTILE}", f"/tasks?q=type:{HOSTILE}", "/queues",
        f"/queues/{named}", f"/types/{named}", "/workers/opsq%40img-1", "/errors", f"/errors/{fault}", "/workflows",
        f"/workflows/{named}",
    ):  # fmt: skip
        answer = ask(path)
        assert answer.status_code == 200, path
        text = answer.text
        assert "<script>alert" not in text
        assert "<img" not in text
        assert "<hx-partial" not in text
        assert "49" not in text.split("<h1")[1].split("</h1>")[0]


def test_a_queue_that_is_behind_says_why_and_against_what(get: Get) -> None:
    text = get("/queues/reports").text
    said = text.split("</h1>")[1].split("</p>")[0]
    assert "The oldest waits" in said
    assert "1\u00a0min is the target" in said
    assert "never, grows" in text
    assert "opsq@reports-2" in text


def test_a_late_worker_says_how_late_and_what_it_ran(get: Get) -> None:
    text = get("/workers/opsq%40reports-2").text
    assert "without a heartbeat" in text.split("</h1>")[1].split("</p>")[0]
    assert "usually one every 2\u00a0s" in text


def test_an_error_names_its_cause_and_where_it_comes_from(get: Get) -> None:
    listed = get("/errors").text
    assert "UnidentifiedImageError" in listed
    text = get("/errors/f1").text
    aside = text.split("<aside")[1]
    assert "shop.images.resize" in aside
    assert "opsq@img-" in aside


def test_a_workflow_folds_what_is_alike_and_marks_the_critical_path(get: Get, world: World) -> None:
    flow = next(flow for flow in world.views.workflows() if flow.members > 1)
    text = get(f"/workflows/{flow.root}").text
    assert "images.resize × 8" in text
    assert text.count('class="critical"') == 3
    assert "7 ok, 1 failed" in text


def test_a_filter_that_history_does_not_count_says_so(get: Get) -> None:
    assert "No chart of this filter" in get("/tasks?q=queue:images%20boom").text
    assert 'id="chart-filter"' in get("/tasks?q=queue:images%20state:failed").text


def test_who_may_not_see_payloads_sees_no_message_of_an_error(world: World) -> None:
    seen = facts.errors(world.deps(), STRANGER)
    assert seen
    assert all("cannot identify" not in f"{group.title} {group.exception} {group.traceback}" for group in seen)


def test_pages_live_below_a_prefix(world: World) -> None:
    ask = client(world, prefix="/ops")
    for path in ("/ops/", "/ops/tasks", "/ops/types"):
        text = ask(path).text
        local = re.findall(r'(?:href|src|action|hx-sse:connect)="(/[^"]*)"', text)
        assert local
        assert all(link.startswith("/ops/") for link in local)
    assert ask("/tasks").status_code == 200, "a proxy that takes the prefix off works as well"


def test_choices_come_back_from_cookies(get: Get) -> None:
    text = get("/", headers={"cookie": "opsq_theme=dark; opsq_density=compact"}).text
    assert 'data-theme="dark" data-density="compact"' in text
    assert 'data-theme="' not in get("/", headers={"cookie": 'opsq_theme=x" onload="y'}).text


def test_what_is_not_there_is_said_in_words_and_in_json(get: Get) -> None:
    page = get("/tasks/nobody-knows-this")
    assert page.status_code == 404
    assert "No such task is known here" in page.text
    api = get("/api/v1/tasks/nobody-knows-this")
    assert api.status_code == 404
    assert api.json() == {"error": {"status": 404, "message": "No such task is known here", "reference": ""}}
    assert get("/nowhere").status_code == 404


def test_failures_are_counted_by_error_where_that_is_known(get: Get, world: World) -> None:
    def facets(q: str) -> dict[str, str]:
        found = get("/tasks", params={"q": q}).text.split('<div id="facets">')[1].split("</nav>")[0]
        assert 'href="/errors"' in found
        rows = found.split("<h2>Error")[1].split("<li>")[1:]
        return dict(re.findall(r'fault%3A(\w+)".*class="n">([\d,]*)<', row, re.DOTALL)[0] for row in rows)

    kept = {group.fault: str(group.failed) for group in world.views.errors() if group.failed}
    assert len(kept) > 1
    assert facets("state:failed") == facets("") == kept
    assert set(facets("queue:images").values()) == {""}, "nobody counts them by queue"
    fault = next(iter(kept))
    found = get("/tasks", params={"q": f"fault:{fault}"})
    assert f"{kept[fault]} task" in found.text, "the list has as many as were counted"
    assert found.text.split("<h2>Error")[1].count('aria-current="true"') == 1
    assert f'value="fault:{fault}"' in found.text, "it is suggested while typing"
    assert f"fault%3A{fault}" in get(f"/errors/{fault}").text, "its page leads to all of them"


def test_a_task_shows_its_place_in_its_workflow_and_its_worker_then(get: Get, world: World) -> None:
    flow = next(flow for flow in world.views.workflows() if flow.members > 1)
    text = get(f"/tasks/{flow.root}").text
    assert f"Open, {flow.members} tasks" in text
    assert "the first of 10 tasks: 9 ok, 1 failed" in text
    assert "images.resize × 8" in text
    then = text.split("img-1 at that time")[1].split("</section>")[0]
    assert "of a core" in then
    assert "Slots used" in then


def test_a_worker_charts_what_it_says_it_uses(get: Get) -> None:
    text = get("/workers/opsq%40img-1").text
    assert all(f'id="chart-{name}"' in text for name in ("busy", "cpu", "memory", "done", "failures", "p95"))
    memory = text.split('id="chart-memory"')[1].split("</figcaption>")[0]
    assert "GB</b>" in memory
    assert 'id="worker-control"></div>' in text.replace("\n", ""), "a monitor that only watches offers no control"


def test_a_worker_tells_its_slots_apart(get: Get, world: World) -> None:
    text = get("/workers/opsq%40img-1").text
    slots = text.split('id="worker-slots"')[1].split("</section>")[0]
    found = world.views.slots("opsq@img-1")
    assert [f'<th scope="row">{one.pid}</th>' in slots for one in found] == [True] * 4
    assert sum(one.runs for one in found) >= 100, "tries are runs"
    assert all(one.cpu_share == pytest.approx(0.6) and one.rss_bytes == 208_000_000 for one in found)
    assert "60 %" in slots.replace("\u00a0", " ")
    idle = get("/workers/opsq%40reports-2").text.split('id="worker-slots"')[1].split("</section>")[0]
    assert idle.split(">")[0].endswith("hidden"), "nothing ran there"
