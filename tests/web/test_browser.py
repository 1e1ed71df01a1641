"""In a real browser: nothing breaks the policy, rows live, keys work, nothing moves under the hand."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from opsq.web.server import Address, WebServer
from tests.web.chromium import Chromium, find_chromium
from tests.web.shots import pages
from tests.web.world import SHOP, World, night

pytestmark = pytest.mark.skipif(
    find_chromium() is None and not os.environ.get("CI"), reason="no Chromium here; CI has one"
)
LIVE = "document.querySelector('#live')?._htmx?.sse && document.querySelector('#live')._htmx.sse.lastEventId"


@pytest.fixture(scope="module")
def shop() -> World:
    return night(minutes=5)


@pytest.fixture(scope="module")
def url(shop: World) -> Iterator[str]:
    server = WebServer(shop.deps(), Address("127.0.0.1", 0))
    server.start()
    yield server.address.url
    assert server.stop(3.0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        found.look(width=1280)
        yield found


def test_no_page_complains_or_scrolls_sideways(browser: Chromium, url: str, shop: World) -> None:
    for name, path in pages(shop).items():
        for width in (360, 721, 1280):
            browser.look(width=width)
            browser.open(url + path)
            if name != "missing":
                browser.until(LIVE)
            assert not [line for line in browser.said if "404" not in line], name
            assert browser.value("document.documentElement.scrollWidth") <= width, f"{name} at {width}"
    browser.look(width=1280)


def test_a_row_lives_and_fades_once(browser: Chromium, url: str, shop: World) -> None:
    browser.open(url + "tasks")
    browser.until(LIVE)
    shop.run(SHOP[0], shop.clock.now() + 0.5)
    shop.step(1.0)
    browser.until("document.querySelector('#rows tr.fresh-a, #rows tr.fresh-b')")
    assert not browser.said


def test_nothing_moves_under_the_hand(browser: Chromium, url: str, shop: World) -> None:
    browser.open(url + "tasks")
    browser.until(LIVE)
    box = browser.value("JSON.stringify(document.querySelector('#rows tr:nth-child(5)').getBoundingClientRect())")
    y = float(box.split('"y":')[1].split(",")[0])
    browser.move(600, y + 10)
    first = browser.value("document.querySelector('#rows tr').id")
    shop.run(SHOP[0], shop.clock.now() + 0.1)
    shop.step(0.5)
    browser.until("!document.querySelector('#fresh-row').hidden")
    assert browser.value("document.querySelector('#rows tr').id") == first
    assert browser.value("document.querySelector('#fresh-row').textContent.trim()").startswith("1 new task. Show it")
    browser.key("n")
    browser.until(f"document.querySelector('#rows tr').id !== '{first}'")
    assert browser.value("document.querySelector('#fresh-row').hidden")
    browser.move(5, 5)


def test_pause_ends_the_stream_and_live_begins_another(browser: Chromium, url: str) -> None:
    browser.open(url)
    browser.until(LIVE)
    browser.key("p")
    assert browser.value("document.querySelector('#live')") is None
    assert browser.value("document.querySelector('#banner-paused').innerText").startswith("Paused at")
    browser.key("p")
    browser.until(LIVE)
    assert browser.value("document.querySelector('#banner-paused').hidden")


def test_keys_move_and_open(browser: Chromium, url: str) -> None:
    browser.open(url + "workers")
    browser.key("j")
    browser.key("j")
    assert browser.value("document.querySelectorAll('tr.cursor').length") == 1
    browser.key("?")
    assert browser.value("document.querySelector('#keys').open")
    browser.key("Escape")
    assert not browser.value("document.querySelector('#keys').open")
    browser.key("/")
    assert browser.value("document.activeElement.name") == "q"
    browser.key("Escape")
    browser.key("g")
    browser.key("t")
    browser.until("location.pathname === '/tasks' && document.readyState === 'complete'")
    browser.key("j")
    browser.key("Enter")
    browser.until("location.pathname.startsWith('/tasks/')")


def test_the_theme_is_remembered(browser: Chromium, url: str) -> None:
    browser.open(url)
    browser.key("t")
    chosen = browser.value("document.documentElement.dataset.theme")
    browser.open(url + "tasks")
    assert browser.value("document.documentElement.dataset.theme") == chosen == "dark"
    browser.key("t")


def test_the_legend_reads_under_the_pointer(browser: Chromium, url: str) -> None:
    browser.open(url)
    box = browser.value(
        "JSON.stringify(document.querySelector('#chart-throughput .plot-area').getBoundingClientRect())"
    )
    x, y = (float(box.split(f'"{name}":')[1].split(",")[0]) for name in ("x", "y"))
    browser.move(x + 20, y + 20)
    browser.until("document.querySelector('#chart-latency .cursor-line').getAttribute('visibility') === 'visible'")
    browser.move(5, 5)
    browser.until("document.querySelector('#chart-latency .cursor-line').getAttribute('visibility') === 'hidden'")
