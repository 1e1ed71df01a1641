"""``opsq autoscale``: output for people and programs, files, and what it says to wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from opsq.cli.main import cli
from opsq.cli.state import CliState
from opsq.errors import UsageError


def run(*words: str) -> str:
    result = CliRunner().invoke(cli, ["autoscale", *words], obj=CliState(), catch_exceptions=True)
    if isinstance(result.exception, UsageError):
        raise result.exception
    return result.output


def test_one_policy_as_json_and_several_as_a_page(tmp_path: Path) -> None:
    load = tmp_path / "mine.csv"
    load.write_text("".join(f"{number / 10},0.5\n" for number in range(1000)))
    found = json.loads(run("simulate", "--trace", str(load), "--json").splitlines()[0])
    assert found["tasks"] == 1000
    assert found["runs"][0]["policy"] == "opsq"
    page = tmp_path / "page.html"
    text = run("compare", "--trace", str(load), "--plot", str(page), "--policy", "opsq", "--policy", "oracle")
    assert "SLOT-HOURS" in text
    assert page.read_text().startswith("<!doctype html>")
    assert "tasks/s of" in run("simulate", "--trace", str(load), "--reasons")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("simulate",), "either --trace or --from-history"),
        (("simulate", "--from-history", "soon"), "such as 24h"),
        (("simulate", "--trace", "step", "--min", "9", "--max", "3"), "swap them"),
        (("simulate", "--trace", "step", "--unit", "4", "--max", "3"), "one replica"),
        (("simulate", "--trace", "step", "--slo", "0"), "above 0"),
    ],
)
def test_wrong_input_is_told(words: tuple[str, ...], told: str) -> None:
    assert told in run(*words)


def test_unknown_names_are_told_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="there are steady"):
        run("simulate", "--trace", "stedy")
    with pytest.raises(UsageError, match="celery"):
        run("simulate", "--trace", "burst", "--policy", "selery")
