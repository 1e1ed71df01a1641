"""Reading and writing schedules and entries; the sun; Celery's way of asking."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opsq import Opsq
from opsq.core.beat.ticks import next_tick
from opsq.core.schedules.periodic import CLEANUP, entries_of
from opsq.core.schedules.spec import as_schedule, schedule_from_spec, spec_of, text_of
from opsq.errors import ConfigError, UsageError
from opsq.schedules import BaseSchedule, ParseException, crontab, maybe_schedule, schedstate, schedule, solar

NOW = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("*/20", {0, 20, 40}),
        ("5", {5}),
        (7, {7}),
        ((1, 2), {1, 2}),
        ("50-10/5", {50, 55, 0, 5, 10}),
        ("1,3-5", {1, 3, 4, 5}),
    ],
)
def test_minutes(field: Any, expected: set[int]) -> None:
    assert crontab(field).minute == expected


def test_names_and_sundays() -> None:
    assert crontab(day_of_week="mon-fri", month_of_year="jan,december").day_of_week == {1, 2, 3, 4, 5}
    assert crontab(day_of_week="5-7").day_of_week == crontab(day_of_week="fri-sun").day_of_week == {5, 6, 0}
    assert crontab.from_string("@daily") == crontab(0, 0)


@pytest.mark.parametrize(
    "text", ["60 * * * *", "* 24 * * *", "5/15 * * * *", "*/0 * * * *", "a * * * *", "* * 30 2 *", "* *"]
)
def test_what_is_no_crontab(text: str) -> None:
    with pytest.raises(ParseException):
        crontab.from_string(text)
    assert issubclass(ParseException, ValueError)


@pytest.mark.parametrize(
    "each",
    [
        schedule(90),
        schedule(3600, relative=True, tz="Asia/Kolkata"),
        crontab("*/5", "8-18", "mon"),
        solar("sunset", 52.5, 13.4),
    ],
    ids=text_of,
)
def test_a_schedule_as_data_and_as_text(each: Any) -> None:
    spec = spec_of(each)
    assert spec is not None
    again = schedule_from_spec(spec)
    assert again == each
    assert pickle.loads(pickle.dumps(each)) == each
    after = NOW.timestamp()
    assert again.next_after(after) == each.next_after(after)
    assert as_schedule(text_of(each).removesuffix(", relative"), getattr(each, "relative", False)) == each


def test_celerys_way_of_asking() -> None:
    every = schedule(60, nowfun=lambda: NOW)
    assert every.is_due(NOW - timedelta(seconds=45)) == schedstate(False, 15)
    assert every.is_due(NOW - timedelta(seconds=61)) == schedstate(True, 60)
    assert crontab("30", "12", tz="UTC", nowfun=lambda: NOW).remaining_estimate(NOW) == timedelta(minutes=30)
    assert maybe_schedule(30) == schedule(30)


def test_schedules_of_ones_own() -> None:
    class Asked(BaseSchedule):
        def is_due(self, last_run_at: datetime) -> schedstate:
            return schedstate(False, 20)

    class Left(BaseSchedule):
        def remaining_estimate(self, last_run_at: datetime) -> timedelta:
            return last_run_at + timedelta(hours=1) - self.now()

    at = NOW.timestamp()
    assert next_tick(Asked(), at, at) == at + 20
    assert next_tick(Left(nowfun=lambda: NOW), at, at) == at + 3600
    with pytest.raises(UsageError, match="next_after"):
        BaseSchedule().next_after(at)


# From ephem 4 (pressure 0, elevation 0), to the second: event, latitude, longitude, after, instant.
SUN = (
    ("dawn_astronomical", 52.5, 13.4, 1740135327, 1740197646),
    ("dawn_astronomical", -33.9, 151.2, 1852474312, 1852482777),
    ("dawn_astronomical", 0.0, -78.5, 1885123110, 1885197172),
    ("dawn_astronomical", 40.7, -74.0, 1884754736, 1884762715),
    ("dawn_astronomical", 21.3, -157.8, 1760194634, 1760195502),
    ("dawn_civil", 52.5, 13.4, 1787379801, 1787455496),
    ("dawn_civil", -33.9, 151.2, 1779591976, 1779654002),
    ("dawn_civil", 0.0, -78.5, 1866197524, 1866279795),
    ("dawn_civil", 40.7, -74.0, 1865516872, 1865589904),
    ("dawn_civil", 21.3, -157.8, 1850156596, 1850226477),
    ("sunrise", 52.5, 13.4, 1759563694, 1759641278),
    ("sunrise", -33.9, 151.2, 1720796534, 1720817935),
    ("sunrise", 0.0, -78.5, 1877587952, 1877598860),
    ("sunrise", 40.7, -74.0, 1854223048, 1854269771),
    ("sunrise", 21.3, -157.8, 1850441588, 1850487112),
    ("sunset", 52.5, 13.4, 1827971898, 1828018444),
    ("sunset", -33.9, 151.2, 1866594774, 1866616663),
    ("sunset", 0.0, -78.5, 1759823480, 1759878298),
    ("sunset", 40.7, -74.0, 1713385517, 1713397085),
    ("sunset", 21.3, -157.8, 1833023174, 1833078074),
    ("dusk_nautical", 52.5, 13.4, 1739047488, 1739121873),
    ("dusk_nautical", -33.9, 151.2, 1751735556, 1751788677),
    ("dusk_nautical", 0.0, -78.5, 1806121847, 1806192439),
    ("dusk_nautical", 40.7, -74.0, 1794972563, 1795041509),
    ("dusk_nautical", 21.3, -157.8, 1750605118, 1750659047),
    ("solar_noon", 52.5, 13.4, 1755005652, 1755083475),
    ("solar_noon", -33.9, 151.2, 1713797929, 1713837210),
    ("solar_noon", 0.0, -78.5, 1777531299, 1777569070),
    ("solar_noon", 40.7, -74.0, 1871451936, 1871484876),
    ("solar_noon", 21.3, -157.8, 1835956642, 1835995332),
)


@pytest.mark.parametrize(("event", "lat", "lon", "at", "expected"), SUN)
def test_the_sun(event: str, lat: float, lon: float, at: int, expected: int) -> None:
    found = solar(event, lat, lon).next_after(at)
    assert found == pytest.approx(expected, abs=60)


def test_the_sun_stays_away_near_the_pole() -> None:
    found = solar("sunrise", 78.2, 15.6).next_after(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
    assert found is not None
    assert datetime.fromtimestamp(found, UTC).month == 2
    with pytest.raises(ValueError, match="solar event"):
        solar("moonrise", 0, 0)


def test_the_entries_of_an_app() -> None:
    app = Opsq("e", broker="memory://", set_as_current=False, timezone="Europe/Berlin")
    app.conf.beat_schedule = {"a": {"task": "t", "schedule": crontab(0, 3)}}

    @app.task(name="e.work")
    def work(x: int) -> int:
        return x

    @app.on_after_configure.connect
    def setup(sender: Any, **_: Any) -> None:
        assert sender.add_periodic_task(30, work.s(1), jitter=2, queue="slow") == "e.work(1)"

    found = entries_of(app)
    assert found["a"].schedule.own_tz is not None
    assert (found["e.work(1)"].jitter_s, found["e.work(1)"].options, found["e.work(1)"].args) == (
        2,
        {"queue": "slow"},
        (1,),
    )
    assert CLEANUP not in found
    with pytest.raises(UsageError, match="two periodic tasks"):
        app.add_periodic_task(31, work.s(1))
    app.close()


def test_every_fault_of_a_schedule_is_said_at_once() -> None:
    app = Opsq("f", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {
        "a": {"task": "t", "shedule": 3},
        "b": {"task": "t"},
        "c": {"task": "t", "schedule": 1, "options": {"quene": "q"}},
    }
    with pytest.raises(ConfigError) as caught:
        entries_of(app)
    assert [fault.origin for fault in caught.value.faults] == [
        "beat_schedule 'a'",
        "beat_schedule 'b'",
        "beat_schedule 'c'",
    ]
    assert "did you mean 'schedule'" in str(caught.value)
    app.close()
