"""The schedule on the pages: who sends, what is late, what cannot be sent, what is hidden."""

from __future__ import annotations

from dataclasses import replace

from opsq.clock import ManualClock
from opsq.web.hands import Timetable
from opsq.web.view_common import Places
from opsq.web.view_schedules import schedule_view, schedules_view
from tests.web.night_hands import NightHands

NOW = 1_795_057_800.0


def timetable() -> Timetable:
    return NightHands(ManualClock(NOW)).timetable()


def test_what_cannot_be_sent_is_first_and_paused_entries_are_last() -> None:
    view = schedules_view(timetable(), True, Places(), NOW)
    names = [row.name for row in view.rows]
    assert (names[0], names[-1]) == ("shop.broken", "shop.paused")
    assert view.sentence == "6 entries, 1 cannot be sent, 1 late last time"
    assert view.detail == "Sent by beat@web-3-4c1d20a7, its lease has 11.2\u00a0s left."
    assert view.add_href == "/act/schedule-add"


def test_nobody_leads() -> None:
    found = timetable()
    alone = Timetable(at=NOW, entries=found.entries)
    view = schedules_view(alone, False, Places(), NOW)
    assert view.sentence == "Nobody sends 6 entries"
    assert view.bad
    assert not view.add_href


def test_nothing_is_there_yet_and_a_monitor_that_only_watches() -> None:
    assert schedules_view(Timetable(at=NOW), True, Places(), NOW).sentence == "No schedule has been seen"
    assert schedules_view(None, False, Places(), NOW).watches


def test_one_entry_with_its_ticks_and_what_comes() -> None:
    entry = next(each for each in timetable().entries if each.name == "shop.poll-stock")
    view = schedule_view(entry, Places("/x"), NOW)
    assert view.sentence.startswith("Next in 30")
    assert len(view.ticks) == 20
    assert view.ticks[0].due_at > view.ticks[-1].due_at
    assert view.task.href == "/x/types/shop.stock.sync"
    assert len(view.upcoming) == 12


def test_rows_keep_their_places_while_ticks_pass() -> None:
    places = [row.name for row in schedules_view(timetable(), True, Places(), NOW).rows]
    later = NightHands(ManualClock(NOW + 47)).timetable()
    assert [row.name for row in schedules_view(later, True, Places(), NOW + 47).rows] == places
    assert replace(Places(), prefix="/x").page("schedules", "a/b") == "/x/schedules/a%2Fb"
