"""The page that says why, its API, and the line on the pages of task and queue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from opsq.cli.hands import FleetHands
from opsq.events.diagnosis.answers import Looked
from opsq.events.diagnosis.asking import Eyes, FleetAsker, Question
from opsq.events.diagnosis.causes import CAUSES
from opsq.events.search import of
from opsq.settings import Settings
from opsq.web.access.door import NOBODY_NEEDED, STRANGER, Visitor
from opsq.web.app import create_app
from opsq.web.deps import Deps
from opsq.web.page_why import line_of, why_page
from opsq.web.view_common import Ask
from opsq.web.view_why import Part
from tests.web.conftest import Get, client_of
from tests.web.why_night import EXPORT, NightEyes, waiting_export
from tests.web.world import HOSTILE, World, night


@pytest.fixture(scope="module")
def shop() -> World:
    return night(minutes=10)


@pytest.fixture(scope="module")
def id(shop: World) -> str:
    return waiting_export(shop, ahead=20, behind=10)


@pytest.fixture(scope="module")
def deps(shop: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deps]:
    """A monitor that can act, whose workers answer as on that night."""
    folder = tmp_path_factory.mktemp("why")
    hands = FleetHands(Settings().replace(data_dir=str(folder)))
    yield replace(shop.deps(), eyes=NightEyes(shop), hands=hands)
    hands.close()


@pytest.fixture(scope="module")
def get(deps: Deps) -> Get:
    return client_of(create_app(deps))


def text_of(parts: tuple[Part, ...]) -> str:
    return "".join(part.text for part in parts)


def test_the_page_tells_the_sentence_the_evidence_all_causes_and_what_helps(deps: Deps, shop: World, id: str) -> None:
    title, view = why_page(deps, Ask("why", NOBODY_NEEDED, id=id), shop.clock.now())
    assert title.startswith(f"Why {EXPORT} 0b7e4c1e waits")
    assert "All 4 slots of reports are busy" in text_of(view.sentence)
    assert Part("reports", "/queues/reports") in view.sentence
    assert view.checks[0].title == "All slots busy"
    assert len(view.checks) == len(CAUSES)
    assert len(view.proofs[0].rows) == 4
    assert max(max(row.percent, row.usual_percent) for row in view.proofs[0].rows) == 100
    grow = next(each for each in view.remedies if "pool_grow" in each.command)
    assert grow.act is not None
    assert grow.act.href == "/act/worker-grow?target=opsq%40reports-1&n=4"
    assert "instead of" in grow.effects[0].text


def test_who_may_not_act_gets_no_buttons(deps: Deps, shop: World, id: str) -> None:
    viewer = Visitor("viewer", frozenset({"read"}), "session")
    _, view = why_page(deps, Ask("why", viewer, id=id), shop.clock.now())
    assert view.remedies
    assert all(each.act is None for each in view.remedies)


def test_task_and_queue_pages_say_it_in_one_sentence(deps: Deps, shop: World, id: str) -> None:
    now = shop.clock.now()
    line = line_of(deps, Ask("task", NOBODY_NEEDED, id=id), now)
    assert line is not None
    assert line.href == f"/why/{id}"
    assert "All 4 slots of reports are busy" in text_of(line.sentence)
    queue = line_of(deps, Ask("queue", NOBODY_NEEDED, id="reports"), now)
    assert queue is not None
    assert "All 4 slots of reports are busy" in text_of(queue.sentence)
    fine = shop.query.tasks(of(state="ok"), limit=1).items[0]
    assert line_of(deps, Ask("task", NOBODY_NEEDED, id=fine.id), now) is None


def test_the_html_of_every_page_has_it(get: Get, id: str) -> None:
    page = get(f"/why/{id}").text
    assert page.count("<h1") == 1
    assert "What helps" in page
    assert 'aria-current="page">Tasks' in page
    assert f'href="/why/{id}"' in get(f"/tasks/{id}").text
    assert 'class="why-line"' in get("/queues/reports").text
    assert get("/why/nobody-knows-it").status_code == 404


def test_the_api_answers_with_the_same(get: Get, id: str) -> None:
    answer = get(f"/api/v1/tasks/{id}/why").json()
    assert (answer["task"], answer["cause"], answer["where"], answer["waits"]) == (id, "slots-busy", "broker", True)
    assert answer["forecast"]["place"] > 1
    assert {check["answer"] for check in answer["checks"]} <= {"yes", "no", "unknown"}
    assert get("/api/v1/tasks/nobody-knows-it/why").status_code == 404
    described = get("/api/v1/openapi.json").json()["paths"]["/api/v1/tasks/{id}/why"]["get"]
    assert described["responses"]["200"]


def test_without_answers_the_page_says_what_is_not_known(shop: World, id: str) -> None:
    get = client_of(create_app(shop.deps()))
    page = get(f"/why/{id}").text
    assert "Not known: the workers were not asked" in page
    assert get(f"/api/v1/tasks/{id}/why").json()["lacks"] == ["the workers were not asked"]


def test_hostile_names_stay_text(shop: World) -> None:
    world = World()
    world.tell("task-sent", "web-1", world.clock.now(), "<b>id", name=HOSTILE, queue=HOSTILE, args=HOSTILE, kwargs="{}")
    world.step(3.0)
    get = client_of(create_app(world.deps()))
    page = get("/why/" + quote("<b>id", safe=""))
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "<b>id" not in page.text


def test_what_a_stranger_may_not_see_is_not_in_the_answer(deps: Deps, shop: World) -> None:
    failed = next(item for item in shop.query.tasks(of(state="failed"), limit=50).items if item.exception)
    _, view = why_page(deps, Ask("why", STRANGER, id=failed.id), shop.clock.now())
    assert failed.exception is not None
    assert failed.exception.partition("(")[2][:12] not in json.dumps(text_of(view.sentence))


def test_a_look_is_shared_and_nobody_waits_for_silence(tmp_path: Path) -> None:
    """Real eyes over a broker that nobody serves: the first viewer gets nothing at once, a later one the look."""
    asker = FleetAsker(Settings().replace(data_dir=str(tmp_path)))
    eyes = Eyes(asker, 30.0)
    question = Question("x", "celery")
    try:
        assert eyes.look(question, 0.0) is None
        seen = eyes.look(question, 10.0)
        assert isinstance(seen, Looked)
        assert (seen.driver, seen.orders, dict(seen.answers)) == ("sqlite", (), {})
        assert eyes.look(question, 0.0) is seen
    finally:
        eyes.close()
