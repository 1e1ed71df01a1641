"""In a real browser: nothing breaks the policy, rows live, keys work, nothing moves under the hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from opsq.web.server import Address, WebServer
from opsq.web.words import duration, significant
from tests.web.chromium import Chromium, find_chromium
from tests.web.night_hands import NightHands
from tests.web.shots import pages
from tests.web.world import SHOP, World, night

pytestmark = pytest.mark.skipif(
    find_chromium() is None and not os.environ.get("CI"), reason="no Chromium here; CI has one"
)
#: What an A4 page has between its margins, in CSS pixels.
PAPER = 703
LIVE = "document.querySelector('#live')?._htmx?.sse && document.querySelector('#live')._htmx.sse.lastEventId"


@pytest.fixture(scope="module")
def shop() -> World:
    return night(minutes=5)


@pytest.fixture(scope="module")
def url(shop: World) -> Iterator[str]:
    server = WebServer(replace(shop.deps(), hands=NightHands(shop.clock)), Address("127.0.0.1", 0))
    server.start()
    yield server.address.url
    assert server.stop(3.0)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


@pytest.fixture
def browser(chromium: Chromium) -> Chromium:
    """The one browser, of the same size for each test, whatever the one before left."""
    chromium.look(width=1280)
    return chromium


def test_no_page_complains_or_scrolls_sideways(browser: Chromium, url: str, shop: World) -> None:
    for name, path in pages(shop).items():
        for width in (360, 721, 1280):
            browser.look(width=width)
            browser.open(url + path)
            browser.until(f"!document.querySelector('#live') || ({LIVE})")
            assert not [line for line in browser.said if "404" not in line], name
            assert browser.value("document.documentElement.scrollWidth") <= width, f"{name} at {width}"
    browser.look(width=1280)


def test_on_paper_there_are_tables_and_nothing_to_press(browser: Chromium, url: str, shop: World) -> None:
    browser.look(width=PAPER)
    for name in ("overview", "tasks", "task-failed", "workflow", "queues", "worker", "audit"):
        browser.open(url + pages(shop)[name])
        browser.call("Emulation.setEmulatedMedia", {"media": "print"})
        assert browser.value("document.documentElement.scrollWidth") <= PAPER + 1, name  # widths are rounded
        pressed = "[...document.querySelectorAll('button, .button, .topbar nav, .range, summary')]"
        assert not browser.value(f"{pressed}.filter((each) => each.checkVisibility()).map((each) => each.outerHTML)"), (
            name
        )
        row = "document.querySelector('main tbody tr')"
        assert browser.value(f"!{row} || getComputedStyle({row}).display === 'table-row'"), name


def test_a_row_lives_and_fades_once(browser: Chromium, url: str, shop: World) -> None:
    browser.open(url + "tasks")
    browser.until(LIVE)
    shop.run(SHOP[0], shop.clock.now() + 0.5)
    shop.step(1.0)
    browser.until("document.querySelector('#rows tr.fresh-a, #rows tr.fresh-b')")
    assert not browser.said


def test_nothing_moves_under_the_hand(browser: Chromium, url: str, shop: World) -> None:
    shop.step(2.0)  # what was planned to come has come
    browser.open(url + "tasks")
    browser.until(LIVE)
    row = browser.box("#rows tr:nth-child(5)")
    browser.move(600, row["y"] + 10)
    browser.until("document.querySelector('#rows tr:hover')")
    first = browser.value("document.querySelector('#rows tr').id")
    shop.run(SHOP[0], shop.clock.now() + 0.1)
    shop.step(1.5)
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
    browser.until(LIVE)
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
    browser.until(f"location.pathname === '/tasks' && document.readyState === 'complete' && {LIVE}")
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


def test_the_legend_reads_under_the_pointer_on_every_chart(browser: Chromium, url: str, shop: World) -> None:
    browser.open(url + "?range=15m")
    browser.until("document.querySelectorAll('#charts .uplot').length === 3")
    plot = browser.box("#chart-latency .canvas")
    done = "document.querySelector('#chart-throughput [data-key=done] b').textContent"
    now = browser.value(done)
    numbers = "JSON.parse(document.querySelector('#chart-throughput .numbers').textContent)"
    at = browser.value(f"{numbers}.lines[0].v.findLastIndex((v, i, all) => v !== null && i < all.length - 8)")
    share = at / (browser.value(f"{numbers}.lines[0].v.length") - 1)
    browser.move(plot["x"] + plot["width"] * share, plot["y"] + 40)
    browser.until("[...document.querySelectorAll('#charts .at')].every((time) => !time.hidden)")
    there = browser.value(done)
    assert there == significant(browser.value(f"{numbers}.lines[0].v[{at}]"))
    shop.step(2.0)  # what comes meanwhile does not take the reading away
    browser.until(f"document.documentElement.dataset.now && {done} === '{there}'")
    browser.move(5, 5)
    browser.until("[...document.querySelectorAll('#charts .at')].every((time) => time.hidden)")
    browser.until(f"{done} !== '{there}' || '{now}' === '{there}'")


def test_what_is_drawn_becomes_the_range(browser: Chromium, url: str) -> None:
    browser.open(url + "?range=15m&p=99")
    browser.until("document.querySelector('#chart-throughput .uplot')")
    plot = browser.box("#chart-throughput .canvas")
    browser.drag(plot["x"] + 0.2 * plot["width"], plot["y"] + 30, plot["x"] + 0.6 * plot["width"])
    browser.until("location.search.includes('from=') && document.readyState === 'complete'")
    assert browser.value("new URLSearchParams(location.search).get('p')") == "99"
    assert browser.value("document.querySelector('.own-range').hasAttribute('data-own')")


def test_words_of_the_script_are_those_of_the_server(browser: Chromium, url: str) -> None:
    browser.open(url)
    small = [0, 0.00004, 0.0004, 0.0123, 0.05, 0.1, 0.4567, 0.9996, 1, 1.24, 9.94, 9.96, 12.0, 24.6, 59.94, 59.96, 60]
    large = [99.94, 100.4, 478, 1234, 3599, 3600, 86_399, 86_400, 99_950.4, 273_600, 999_499, 1_234_567, 9e6]
    values = [*small, *large]
    said = "(v) => [opsqWords.duration(v), opsqWords.significant(v)]"
    told = browser.value(f"JSON.stringify({values}.map({said}))")
    assert json.loads(told) == [[duration(value), significant(value)] for value in values]


def test_without_a_script_the_charts_are_there(browser: Chromium, url: str) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.call("Page.navigate", {"url": url + "?range=15m"})
        while not browser.value("document.readyState === 'complete' && Boolean(document.querySelector('#charts'))"):
            pass  # each look is a question to the browser and takes its time; its own timers are off, too
        assert browser.value("document.querySelectorAll('#charts .traces path').length") > 4
        visible = "getComputedStyle(document.querySelector('#charts .traces')).visibility"
        assert browser.value(visible) == "visible"
        assert browser.value("document.querySelectorAll('#chart-data tbody tr').length") > 10
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", {"value": False})
