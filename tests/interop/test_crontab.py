"""Our crontab and Celery's give the same instants, over random expressions and zones.

Around the jumps of a clock the two differ on purpose (docs/schedules.md), so the cases stay a week away from them.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from opsq.schedules import crontab
from tests.interop.peers import python_of

CASES = 20_000 if os.environ.get("INTEROP") == "full" else 600
HERE = Path(__file__).parent


def numbers(dice: random.Random, low: int, high: int, names: tuple[str, ...] = ()) -> str:
    def one() -> str:
        number = dice.randint(low, high)
        return names[number - low] if names and dice.random() < 0.3 else str(number)

    def part() -> str:
        kind = dice.random()
        if kind < 0.3:
            return one()
        if kind < 0.6:
            return f"{one()}-{one()}" + (f"/{dice.randint(1, 5)}" if dice.random() < 0.3 else "")
        return f"*/{dice.randint(1, high)}"

    return "*" if dice.random() < 0.35 else ",".join(part() for _ in range(dice.randint(1, 3)))


def case(dice: random.Random) -> dict[str, Any]:
    months = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
    days = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
    fields = [
        numbers(dice, 0, 59),
        numbers(dice, 0, 23),
        numbers(dice, 0, 6, days),
        numbers(dice, 1, 31),
        numbers(dice, 1, 12, months),
    ]
    zone = dice.choice(("UTC", "Asia/Kolkata", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"))
    at = dice.randint(
        int(datetime(2023, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2030, 1, 1, tzinfo=UTC).timestamp())
    )
    return {"fields": fields, "zone": zone, "after": at, "count": 4}


def jumps_near(instants: list[float], zone: str) -> bool:
    """Whether the zone's clock jumps from a week before the first to a week after the last."""
    place, week = ZoneInfo(zone), 7 * 86_400
    for at in instants:
        offsets = {datetime.fromtimestamp(at + shift, place).utcoffset() for shift in (-week, 0, week)}
        if len(offsets) > 1:
            return True
    return False


def test_random_expressions_give_celerys_instants() -> None:
    dice = random.Random(5)
    cases, skipped = [], 0
    while len(cases) < CASES:
        found = case(dice)
        try:
            crontab(*found["fields"])
        except ValueError:
            skipped += 1  # no such date in any year
            continue
        cases.append(found)
    text = "\n".join(map(json.dumps, cases))
    done = subprocess.run(
        [python_of("celery"), str(HERE / "cron_of_celery.py")], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == CASES
    compared, wrong = 0, []
    for asked, theirs in zip(cases, answers, strict=True):
        cron, at = crontab(*asked["fields"], tz=asked["zone"]), float(asked["after"])
        for expected in theirs:
            if jumps_near([at, expected], asked["zone"]):
                at = expected
                continue
            compared += 1
            if cron.next_after(at) != expected:
                wrong.append((asked, at, expected, cron.next_after(at)))
            at = expected
    assert compared > CASES * 2
    assert not wrong, wrong[:3]
