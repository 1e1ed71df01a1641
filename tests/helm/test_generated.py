"""The short part, in every ``make test``: generated files are current, rules do what they say. Needs no Helm."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from deploy.generate.__main__ import HERE, stale
from deploy.generate.dashboards import DASHBOARDS
from deploy.generate.promql import NoSeries, now
from deploy.generate.rules import ALERTS
from deploy.generate.schema import values_schema
from tests.servers import missing

CHART = HERE / "helm" / "opsq"
VALUES = sorted((Path(__file__).parent / "values").glob("*.yaml"))


def test_generated_files_are_current() -> None:
    assert stale() == [], "make docs"


def test_the_chart_brings_values_that_its_schema_takes() -> None:
    jsonschema.Draft7Validator(values_schema()).validate(yaml.safe_load((CHART / "values.yaml").read_text()))


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_a_set_of_values_fits_the_schema(values: Path) -> None:
    jsonschema.Draft7Validator(values_schema()).validate(yaml.safe_load(values.read_text()))


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"settings": {"task_acks_lat": True}}, "task_acks_lat"),
        ({"settings": {"task_time_limit": -1}}, "-1"),
        ({"workers": {"default": {"concurrency": 0}}}, "0"),
        ({"workers": {"default": {"poool": "threads"}}}, "poool"),
        ({"monitor": {"port": 80}}, "80"),
    ],
)
def test_a_wrong_value_does_not(wrong: dict[str, object], name: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=name):
        jsonschema.Draft7Validator(values_schema()).validate(wrong)


def test_promtool_takes_the_rules_and_every_one_fires_and_is_quiet() -> None:
    promtool = shutil.which("promtool") or missing("promtool", "apt-get install prometheus")
    folder = HERE / "prometheus"
    for words in (("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")):
        done = subprocess.run([promtool, *words], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    played = yaml.safe_load((folder / "rules_test.yaml").read_text())["tests"]
    assert len(played) == 2 * len(ALERTS)


def test_a_series_that_does_not_exist_is_refused() -> None:
    with pytest.raises(NoSeries, match="opsq_queue_lenght"):
        now("opsq_queue_lenght")
    with pytest.raises(NoSeries, match="has no label type"):
        now("opsq_queue_length", type="x")


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_a_dashboard_has_no_overlapping_panels(board: object) -> None:
    panels = json.loads((HERE / "grafana" / f"{board.uid}.json").read_text())["panels"]  # type: ignore[attr-defined]
    taken = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
