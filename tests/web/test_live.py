"""Live pages: the first message is everything, later ones only what changed, and stopping ends them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from opsq.web.access.door import Visitor
from opsq.web.assets import Assets
from opsq.web.live import OPENING, Session, event, stream
from opsq.web.moments import Moments
from opsq.web.pages import PAGES, page_named
from opsq.web.render import Renderer
from opsq.web.view_common import Ask, parse_ask
from tests.promises import within
from tests.web.conftest import Get
from tests.web.night_hands import NightHands
from tests.web.world import NIGHT, SHOP, World, night


def session(world: World, name: str, **asked: str) -> Session:
    page = page_named(name)
    assert page is not None
    deps = replace(world.deps(), hands=NightHands(world.clock))
    return Session(
        page, deps, Moments(deps, Renderer(Assets.load(), deps.places)), parse_ask(name, asked, {}, asked.get("id", ""))
    )


def targets(text: str) -> list[str]:
    return re.findall(r'hx-target="#([^"]+)"', text)


@pytest.fixture
def shop() -> World:
    return night(minutes=2)


@pytest.mark.parametrize("name", [page.name for page in PAGES])
def test_the_first_message_holds_every_region(shop: World, name: str) -> None:
    page = page_named(name)
    assert page is not None
    shop.workflow(shop.clock.now())
    for _ in range(5):
        shop.step(1.0)
    known = {
        "queue": "images", "worker": "opsq@img-1", "type": "shop.images.resize", "task": shop.query.tasks().items[0].id,
        "error": shop.views.errors()[0].fault, "workflow": shop.views.workflows()[0].root,
        "schedule": "shop.poll-stock", "why": shop.query.tasks().items[0].id,
    }  # fmt: skip
    text = session(shop, name, id=known.get(name, "")).messages()
    assert targets(text) == [region.id for region in page.regions]
    assert text.startswith("id: 1\n")
    assert all(line.startswith(("id: ", "event: ", "data: ")) for line in text.split("\n") if line)


def test_nothing_new_is_not_sent(shop: World) -> None:
    live = session(shop, "workers")
    live.messages()
    assert live.messages() == ""


def test_a_task_that_changes_is_replaced_in_place(shop: World) -> None:
    live = session(shop, "tasks")
    task = shop.run(SHOP[0], shop.clock.now() + 0.1)
    shop.step(0.11)
    first = live.messages()
    assert "event: list" in first
    shop.step(0.2)
    live.messages()
    shop.step(2.0)
    text = live.messages()
    assert "event: list" not in text
    rows = [target for target in targets(text) if target.startswith("t-")]
    assert rows
    assert task in text
    assert 'class="fresh-' in text


def test_new_rows_come_as_a_list_for_the_page_to_take(shop: World) -> None:
    live = session(shop, "tasks")
    live.messages()
    shop.run(SHOP[0], shop.clock.now() + 0.5)
    shop.step(3.0)
    text = live.messages()
    assert "\nevent: list\n" in "\n" + text
    assert "<tr id=" in text.split("event: list")[1]


def test_a_filter_holds_for_what_is_live(shop: World) -> None:
    live = session(shop, "tasks", q="queue:mail")
    live.messages()
    shop.run(SHOP[0], shop.clock.now() + 0.1)
    shop.step(3.0)
    assert "event: list" not in live.messages()


def test_text_of_tasks_cannot_end_an_event() -> None:
    assert event("a\nb\r\nc\rd", name="list") == "event: list\ndata: a\ndata: b\ndata: c\ndata: d\n\n"


def test_a_stream_ends_when_the_monitor_stops() -> None:
    world = World()
    deps = world.deps()
    page = page_named("overview")
    assert page is not None

    async def watch() -> list[str]:
        said: list[str] = []
        live = Session(page, deps, Moments(deps, Renderer(Assets.load(), deps.places)), Ask("overview"))
        async for part in stream(live, deps):
            said.append(part)
            if len(said) == 2:
                deps.stopping.set()
                deps.feed.close()
        return said

    said = asyncio.run(asyncio.wait_for(watch(), 60))
    assert said[0] == OPENING
    assert 'hx-target="#verdict"' in said[1]
    assert said[-1].startswith("retry: 2000")


def test_an_event_reaches_an_open_page_at_once() -> None:
    world = World(NIGHT)
    deps = world.deps()
    page = page_named("tasks")
    assert page is not None

    async def watch() -> float:
        loop = asyncio.get_running_loop()
        live = Session(page, deps, Moments(deps, Renderer(Assets.load(), deps.places)), Ask("tasks"))
        told_at = 0.0
        async for part in stream(live, deps):
            if "event: list" in part:
                return loop.time() - told_at
            if "hx-target" in part and not told_at:
                world.tell("task-sent", "web-3", world.clock.now(), "first", name="shop.first", queue="images")
                told_at = loop.time()
                loop.call_later(0.3, world.step, 1.0)
                told_at += 0.3
        raise AssertionError("the stream ended")

    assert asyncio.run(asyncio.wait_for(watch(), 60)) < within(0.3)


def test_a_stream_about_nothing_is_refused_before_it_begins(get: Get) -> None:
    for page in ("task", "worker", "queue", "type", "error", "workflow"):
        assert get(f"/live/{page}?id=nothing").status_code == 404


def test_a_stream_ends_when_what_it_is_about_is_gone(shop: World) -> None:
    deps = shop.deps()
    page = page_named("worker")
    assert page is not None

    async def watch() -> list[str]:
        said: list[str] = []
        live = Session(page, deps, Moments(deps, Renderer(Assets.load(), deps.places)), Ask("worker", id="opsq@img-1"))
        async for part in stream(live, deps):
            said.append(part)
            shop.cluster.workers.forget("opsq@img-1")
            shop.clock.advance(1.0)
        return said

    assert asyncio.run(asyncio.wait_for(watch(), 60))[-1].startswith("retry: 2000")


def test_a_hundred_viewers_cost_as_much_as_one(shop: World) -> None:
    """What they share is read and written once a moment, and never between visitors who may see different things."""
    deps = shop.deps()
    reads: list[str] = []
    page = page_named("workers")
    assert page is not None
    counted = replace(page, make=lambda *asked: reads.append("") or page.make(*asked))
    moments = Moments(deps, Renderer(Assets.load(), deps.places))
    stranger = replace(Ask("workers"), visitor=Visitor("anna", frozenset({"read"}), "session"))
    viewers = [Session(counted, deps, moments, ask) for ask in (*[Ask("workers")] * 50, stranger, stranger)]
    said = [viewer.messages() for viewer in viewers]
    assert len(reads) == 2
    assert len(set(said[:50])) == 1
    shop.clock.advance(1.0)
    for viewer in viewers:
        viewer.messages()
    assert len(reads) == 4


def test_a_change_during_a_moment_is_not_slept_over(shop: World) -> None:
    """Who was given a moment from before the change looks again at once, without waiting for the next news."""
    live = session(shop, "tasks")
    live.messages()
    assert not live.behind
    shop.run(SHOP[0], shop.clock.now() + 0.01)
    shop.step(0.02)
    live.messages()
    assert live.behind
    shop.clock.advance(0.3)
    assert "event: list" in live.messages()
    assert not live.behind
