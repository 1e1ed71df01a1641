"""Ticking tasks and what follows, in a real browser: by mouse, by keys alone, and without script."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from opsq.cli.hands import FleetHands
from opsq.settings import Settings
from opsq.web.server import Address, WebServer
from tests.web.chromium import Chromium, find_chromium
from tests.web.clicking import Hand
from tests.web.world import SHOP, World, night

pytestmark = pytest.mark.skipif(
    find_chromium() is None and not os.environ.get("CI"), reason="no Chromium here; CI has one"
)
TICKED = "[...document.querySelectorAll('#rows :checked')].length"
BAR = "document.querySelector('.bulk p').innerText"


@pytest.fixture(scope="module")
def shop() -> World:
    return night(minutes=5)


@pytest.fixture(scope="module")
def url(shop: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Pages of a monitor that may act, on a broker that nobody serves."""
    hands = FleetHands(Settings().replace(data_dir=str(tmp_path_factory.mktemp("choosing"))))
    server = WebServer(replace(shop.deps(), hands=hands), Address("127.0.0.1", 0))
    server.start()
    yield server.address.url
    assert server.stop(3.0)
    hands.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        found.look(width=1280)
        yield found


@pytest.fixture
def hand(browser: Chromium, url: str) -> Hand:
    return Hand(browser, url)


def row(number: int) -> str:
    """The box of a row, from 0."""
    return f"document.querySelectorAll('#rows input')[{number}]"


def test_ticking_says_what_is_chosen_and_moves_nothing(hand: Hand, browser: Chromium) -> None:
    hand.open("tasks?q=state:ok")
    top = browser.value(f"scrollY + {row(0)}.getBoundingClientRect().y")
    for number in (1, 2):
        hand.press(row(number))
    hand.wait_for(f"{BAR}.startsWith('2 selected, all ok. Select all ')")
    assert browser.value(f"scrollY + {row(0)}.getBoundingClientRect().y") == top
    assert browser.value("document.querySelector('#choose-page').indeterminate")
    hand.press("document.querySelector('[data-do=choose-all]')")
    hand.wait_for(f"/^All [\\d,]+ selected, everything that are ok/.test({BAR})")
    hand.press("document.querySelector('.bulk [formaction$=revoke]')")
    hand.wait_for("document.querySelector('#ask [name=q]')")
    assert browser.value("document.querySelector('#ask [name=q]').value") == "state:ok"
    assert not browser.value("document.querySelector('#ask [name=id]')")
    browser.key("Escape")
    hand.wait_for("!document.querySelector('dialog[open]')")
    assert browser.value(TICKED) == 2, "closing a dialog is not clearing the selection"
    browser.key("Escape")
    hand.wait_for(f"{TICKED} === 0")
    assert not browser.said, browser.said


def test_keys_alone_choose_and_ask(hand: Hand, browser: Chromium) -> None:
    hand.open("tasks")
    for key in "jxjjx":
        browser.key(key)
    hand.wait_for(f"{TICKED} === 2")
    browser.value("document.querySelector('.bulk button[data-ask]').focus()")
    hand.enter()
    hand.wait_for("document.querySelector('#ask [name=id]')")
    assert browser.value("document.querySelectorAll('#ask [name=id]').length") == 2
    assert browser.value("document.querySelector('#ask').contains(document.activeElement)")
    browser.key("Escape")
    hand.wait_for("!document.querySelector('dialog[open]')")
    assert browser.value("document.activeElement.textContent") == "Retry…", "the focus comes back to where it was"


def test_nothing_comes_or_goes_while_something_is_chosen(hand: Hand, browser: Chromium, shop: World) -> None:
    hand.open("tasks")
    hand.wait_for("document.querySelector('#live')?._htmx?.sse?.lastEventId")
    hand.press(row(3))
    first = browser.value("document.querySelector('#rows tr').id")
    shop.run(SHOP[0], shop.clock.now() + 0.1)
    shop.step(0.5)
    hand.wait_for("!document.querySelector('#fresh-row').hidden")
    assert browser.value("document.querySelector('#rows tr').id") == first
    assert browser.value(f"{row(3)}.checked")


def test_without_script_ticks_lead_to_the_same_preview(hand: Hand, browser: Chromium) -> None:
    with hand.without_script():
        hand.open("tasks?q=state:ok")
        assert "With the ticked tasks:" in browser.value(BAR)
        for number in (0, 1, 2):
            hand.press(row(number))
        hand.press("document.querySelector('.bulk [formaction$=revoke]')")
        hand.wait_for("location.pathname === '/bulk/revoke' && document.querySelector('main form')")
        assert browser.value("document.querySelectorAll('main [name=id]').length") == 3
        assert "3: it has ended" in browser.value("document.querySelector('main').innerText")
