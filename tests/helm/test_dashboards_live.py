"""Every query of every panel is put to a Prometheus that scrapes the demo, and has data."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from deploy.generate.dashboards import DASHBOARDS
from tests.cli.runner import running
from tests.helm.prometheus import Prometheus, prometheus
from tests.servers import free_port

WITHIN_S = 150.0
_VARIABLES = {"$__rate_interval": "30s", "$__range": "10m", "$job": ".*", "$namespace": ".*"}


def _asked() -> dict[str, str]:
    """Every expression as Grafana sends it, by where it stands."""
    found = {}
    for board in DASHBOARDS:
        for panel in board.panels:
            for number, query in enumerate(panel.queries):
                text = query.asks
                for name, value in _VARIABLES.items():
                    text = text.replace(name, value)
                found[f"{board.uid}: {panel.title} {number}"] = text
    return found


def _empty(server: Prometheus, asked: dict[str, str]) -> dict[str, str]:
    """Those without a sample that is a number."""
    return {where: text for where, text in asked.items() if not _numbers(server, text)}


def _numbers(server: Prometheus, text: str) -> list[float]:
    return [number for each in server.query(text) if (number := float(each["value"][1])) == number]


def test_every_query_has_data_from_the_demo(tmp_path: Path) -> None:
    port = free_port()
    words = (
        "up",
        "-A",
        "examples.demo.app",
        "--data-dir",
        str(tmp_path / "data"),
        "--port",
        str(port),
        "--autoscale=4,1",
    )
    root = str(Path(__file__).resolve().parents[2])
    with running(*words, cwd=tmp_path, ready="page on", PYTHONPATH=root), prometheus(tmp_path, port) as server:
        left, deadline, pause = _asked(), time.monotonic() + WITHIN_S, threading.Event()
        while left := _empty(server, left):
            assert time.monotonic() < deadline, "\n".join(f"{where}: {text}" for where, text in left.items())
            pause.wait(2)
        print(f"{len(_asked())} queries of {len(DASHBOARDS)} dashboards have data", file=sys.stderr)
