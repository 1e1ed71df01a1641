"""Crontab and interval arithmetic against a clock that is read minute by minute, for three years in four zones.

The zones: clocks that jump by an hour in March and October, in the southern summer, by half an hour, and never.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from opsq.schedules import crontab, schedule

FULL = os.environ.get("INTEROP") == "full" or os.environ.get("CHAOS") == "full"
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")
BEGIN = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
MINUTES = 3 * 365 * 1440 + 1440
DAY = 1440
# fields: minute, hour, day of week, day of month, month; chosen to meet the jumps at 1, 2 and 3 o'clock.
EXPRESSIONS: tuple[tuple[str, str, str, str, str], ...] = (
    ("30", "2", "*", "*", "*"),
    ("*/15", "1-3", "*", "*", "*"),
    ("7,40", "*", "*", "*", "*"),
    ("0", "*/2", "sun", "*", "3,4,10,11"),
    ("59", "1,23", "*", "*", "*"),
    ("0", "0", "*", "29,31", "*"),
    ("20-50/10", "22-2", "sat-mon", "1-7,25-31", "*"),
)


@pytest.fixture(scope="module", params=ZONES)
def zone_walls(request: pytest.FixtureRequest) -> tuple[str, list[int]]:
    """A zone, and what its wall shows at each minute: minutes since the epoch, as if it were UTC."""
    zone = ZoneInfo(request.param)
    walls = []
    for hour in range(0, MINUTES, 30):  # no zone of these jumps but at a full half hour
        at = BEGIN + hour * 60
        offset = datetime.fromtimestamp(at, zone).utcoffset()
        assert offset is not None
        first = (at + int(offset.total_seconds())) // 60
        walls.extend(range(first, first + 30))
    return request.param, walls


def brute(walls: list[int], cron: crontab) -> Iterator[int]:
    """The rule, said in another way: walk the minutes, and remember how far the wall clock has been."""
    minute_fits = bytes(m % 60 in cron.minute and m // 60 in cron.hour for m in range(DAY))
    day_fits: dict[int, bool] = {}

    def fits(wall: int) -> bool:
        if not minute_fits[wall % DAY]:
            return False
        day = wall // DAY
        if day not in day_fits:
            date = datetime.fromtimestamp(day * DAY * 60, UTC)
            day_fits[day] = (
                date.month in cron.month_of_year
                and date.day in cron.day_of_month
                and date.isoweekday() % 7 in cron.day_of_week
            )
        return day_fits[day]

    real_time = len(cron.hour) == 24
    furthest = walls[0] - 1
    for number, wall in enumerate(walls):
        if real_time:
            hit = fits(wall)
        elif wall <= furthest:
            hit = False  # shown a second time
        else:
            hit = fits(wall) if wall == furthest + 1 else any(fits(each) for each in range(furthest + 1, wall + 1))
        furthest = max(furthest, wall)
        if hit:
            yield BEGIN + number * 60


def ours(cron: crontab | schedule, first: float) -> Iterator[float]:
    at = cron.next_after(first)
    while at is not None and at < BEGIN + MINUTES * 60:
        yield at
        at = cron.next_after(at)


def test_crontab_is_what_the_wall_clock_says(zone_walls: tuple[str, list[int]]) -> None:
    zone, walls = zone_walls
    expressions = EXPRESSIONS + ((("*", "*", "*", "*", "*"), ("*/5", "*", "*", "*", "*")) if FULL else ())
    for fields in expressions:
        cron = crontab(*fields, tz=zone)
        assert list(ours(cron, BEGIN - 1)) == list(brute(walls, cron)), (zone, fields)


def test_random_crontabs_are_what_the_wall_clock_says(zone_walls: tuple[str, list[int]]) -> None:
    zone, walls = zone_walls
    dice = random.Random(zone)
    for _ in range(60 if FULL else 3):
        fields = (
            str(dice.randrange(60)) if dice.random() < 0.5 else f"*/{dice.randrange(7, 40)}",
            dice.choice(["*", str(dice.randrange(24)), "0-4", "*/3", "23,0,1,2"]),
            dice.choice(["*", "*", "mon-fri", "sun", "0,3"]),
            dice.choice(["*", "*", "1-9", "28-31", "*/2"]),
            dice.choice(["*", "3,4,9-11", "1-6"]),
        )
        cron = crontab(*fields, tz=zone)
        assert list(ours(cron, BEGIN - 1)) == list(brute(walls, cron)), (zone, fields)


def brute_interval(walls: list[int], every_minutes: int) -> Iterator[int]:
    """Relative intervals: days by date, hours and minutes by the last full one on the wall not after the end."""
    unit = 60 if every_minutes >= 60 else 1
    last = 0  # the first minute is midnight UTC, dealt with
    while True:
        if every_minutes >= DAY:
            wanted = (walls[last] + every_minutes) // DAY * DAY
            found = next((m for m in range(last + 1, len(walls)) if walls[m] >= wanted), None)
        else:
            end = last + every_minutes
            if end + 3 * 60 >= len(walls):
                return
            before = next((m for m in range(end, last, -1) if walls[m] % unit == 0), None)
            found = before or next(m for m in range(end + 1, len(walls)) if walls[m] % unit == 0)
        if found is None:
            return
        yield BEGIN + found * 60
        last = found


@pytest.mark.parametrize("every_minutes", [7, 90, 24 * 60, 36 * 60, 7 * 24 * 60])
def test_relative_intervals_are_what_the_wall_clock_says(zone_walls: tuple[str, list[int]], every_minutes: int) -> None:
    zone, walls = zone_walls
    if every_minutes < 60 and not FULL:
        walls = walls[: 120 * DAY]  # until after the jumps of March and April
    every = schedule(every_minutes * 60, relative=True, tz=zone)
    wanted = list(brute_interval(walls, every_minutes))
    found = ours(every, BEGIN)
    assert [next(found) for _ in wanted] == wanted


def test_plain_intervals_count_real_time() -> None:
    every = schedule(45 * 60, tz="Europe/Berlin")
    found = [at for _, at in zip(range(40_000), ours(every, BEGIN), strict=False)]
    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {2700.0}
