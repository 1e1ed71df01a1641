"""What ``promtool test rules`` plays: for every alert a history that fires it and one that does not."""

from __future__ import annotations

import re
from typing import Any, Final

from deploy.generate.rules import ALERTS, Alert, Given

JOB: Final = "opsq"
_LABEL: Final = re.compile(r"\{\{ \$labels\.(\w+) \}\}")


def rule_tests() -> dict[str, Any]:
    """Return the file of tests."""
    tests = [test for alert in ALERTS for test in (_test(alert, alert.fires, True), _test(alert, alert.quiet, False))]
    return {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}


def _test(alert: Alert, given: Given, fires: bool) -> dict[str, Any]:
    raised = [_raised(alert)] if fires else []
    return {
        "name": f"{alert.name} {'fires' if fires else 'is quiet'}",
        "interval": "1m",
        "input_series": [{"series": _named(series), "values": values} for series, values in given],
        "alert_rule_test": [{"alertname": alert.name, "eval_time": alert.at, "exp_alerts": raised}],
    }


def _raised(alert: Alert) -> dict[str, Any]:
    # A series that is not there has no labels to hand on.
    place = {"job": JOB} if alert.fires else {}
    said = {
        "summary": _LABEL.sub(lambda found: alert.labels[found[1]], alert.summary),
        "description": _LABEL.sub(lambda found: alert.labels[found[1]], alert.advice),
    }
    return {"exp_labels": {**place, **alert.labels, "severity": alert.severity}, "exp_annotations": said}


def _named(series: str) -> str:
    name, _, labels = series.partition("{")
    return f'{name}{{job="{JOB}"' + (f", {labels}" if labels else "}")
