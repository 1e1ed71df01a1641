"""Decisions in sentences, on the command line, and what they add up to."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from opsq.autoscale.account import SILENT_S, account, in_force
from opsq.autoscale.explain import asked, decided_by, finding, held_back, reason
from opsq.cli.autoscale_explain import moment_of
from opsq.cli.main import cli
from opsq.cli.state import CliState
from opsq.events.decisions import DecidedBound, DecisionItem, DecisionRow, row_of
from opsq.events.sqlite import SqliteStore
from opsq.events.store import Changes
from tests.unit.events.test_decisions import decided

T0 = 1_790_000_000.0


def item(at: float = T0, **fields: object) -> DecisionItem:
    whole = {"group": "g", "source": "e", "have": 4, "want": 4, "target": 4, "applied": 4, **fields}
    return DecisionItem(at=at, **whole)  # type: ignore[arg-type]


NEED = DecidedBound("drain", "need", 31.2, "412 tasks wait in `mail`")
CAP = DecidedBound("memory", "cap", 4.0, "memory allows 4 slots of 900 MB")


@pytest.mark.parametrize(
    ("one", "said", "by"),
    [
        (item(), "kept 4", ""),
        (item(target=9, want=9, applied=9, winner="drain"), "4 → 9", "drain in time"),
        (item(want=2, hold=3.0, winner="steady"), "kept 4, wants 2: 3\xa0s of hold left", "steady load"),
        (item(target=2, want=2, applied=2, winner="steady"), "4 → 2", "hold over"),
        (item(mode="blind"), "kept 4: signals are missing", ""),
        (item(mode="dry", target=2, applied=4), "would have 2, has 4", "hold over"),
        (
            item(bounds=(NEED, CAP), winner="drain", capped_by="memory", max=20),
            "kept 4, wants 20: memory allows 4", "memory",
        ),
    ],
)  # fmt: skip
def test_findings(one: DecisionItem, said: str, by: str) -> None:
    assert finding(one) == said
    assert decided_by(one) == by


def test_the_reason_is_that_of_the_bounds_that_decided() -> None:
    one = item(bounds=(NEED, CAP), winner="drain", capped_by="memory", max=64)
    assert held_back(one)
    assert asked(one) == 32
    assert reason(one) == "412 tasks wait in mail; memory allows 4 slots of 900 MB"
    assert reason(item(text="kept 4: because")) == "kept 4: because"


def test_sums_stop_where_nothing_is_told() -> None:
    told = [item(T0, applied=4, target=2, have=2), item(T0 + 60, applied=4, target=2, have=2)]
    found = account(told, T0 + 3600)
    assert found.covered_s == 60 + SILENT_S
    assert found.slot_hours == pytest.approx(4 * (60 + SILENT_S) / 3600)
    assert found.saved_hours == pytest.approx(2 * (60 + SILENT_S) / 3600)
    assert account([], T0).slot_hours == 0


def test_what_was_in_force() -> None:
    told = [item(T0 + 60, applied=7), item(T0, applied=4)]
    found = in_force(told, [T0 - 1, T0, T0 + 59, T0 + 61, T0 + 61 + SILENT_S])
    assert [None if one is None else one.applied for one in found] == [None, 4, 4, 7, None]


def test_moments() -> None:
    now = datetime(2026, 11, 21, 3, 14, 0, tzinfo=UTC).timestamp()
    assert now - moment_of("30m", now) == 1800
    assert datetime.fromtimestamp(moment_of("02:58", now), UTC).strftime("%d %H:%M:%S") == "21 02:58:00"
    assert datetime.fromtimestamp(moment_of("22:10:05", now), UTC).strftime("%d %H:%M:%S") == "20 22:10:05"
    assert moment_of("2026-11-21T03:00:00Z", now) == moment_of("2026-11-21T03:00:00", now) == now - 840
    with pytest.raises(click.BadParameter, match="expected 02:58"):
        moment_of("yesterday", now)


@pytest.fixture
def history(tmp_path: Path) -> str:
    path = tmp_path / "history.sqlite"
    store = SqliteStore(path)
    rows: list[DecisionRow] = []
    for at, have, target in ((T0, 1, 1), (T0 + 60, 1, 6), (T0 + 120, 6, 6)):
        row = row_of(
            decided(at, have=have, want=target, target=target, applied=target, text="", winner="drain", preset="lean",
                    bounds=[["drain", "need", target, "tasks wait"]], signals=[["mail", "waiting", 12, "tasks", 0.5]])
        )  # fmt: skip
        assert row is not None
        rows.append(row)
    store.write(Changes(decisions=rows))
    store.close()
    return f"sqlite:///{path}"


def explain(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["autoscale", "explain", *words], obj=CliState(), standalone_mode=False)
    return result.return_value, result.output


def test_explain_says_what_was_decided_and_why(history: str) -> None:
    at = datetime.fromtimestamp(T0 + 130, UTC).isoformat()
    code, said = explain("--store", history, "--at", at)
    assert code == 0
    for words in (
        "kept 6",
        "live, lean",
        "tasks wait",
        "drain in time 6",
        "wait 12 tasks in mail",
        "1 → 6",
        "1 changes",
    ):
        assert words in said, said
    code, said = explain("--store", history, "--at", at, "--json")
    (group,) = json.loads(said)["groups"]
    assert group["decision"]["decided_by"] == "drain in time"
    assert [one["target"] for one in group["before"]] == [6]
    assert group["day"]["changes"] == 1


def test_explain_at_a_moment_before_anything_was_decided(history: str) -> None:
    code, said = explain("--store", history, "nobody")
    assert code == 1
    assert "no decision of nobody is known" in said
