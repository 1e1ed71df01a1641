"""A Prometheus of Debian's that a test starts itself: it scrapes a monitor, holds the rules, answers queries."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from deploy.generate.rules import rules
from tests.servers import START_S, free_port, missing, wait_for_port

EVERY_S = 1


class Prometheus:
    """Scrapes ``port`` of this machine. waits: how long rules wait, in the place of their own minutes."""

    def __init__(self, folder: Path, port: int, token: str = "", waits: str = "0s") -> None:
        self._program = shutil.which("prometheus") or missing("prometheus", "apt-get install prometheus")
        self._folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        hurried = rules()
        for rule in hurried["groups"][0]["rules"]:
            rule["for"] = waits
        login = {"authorization": {"credentials": token}} if token else {}
        config = {
            "global": {"scrape_interval": f"{EVERY_S}s", "evaluation_interval": f"{EVERY_S}s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "opsq", **login, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
        }
        (folder / "rules.yaml").write_text(yaml.safe_dump(hurried))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def start(self) -> None:
        """Start it and wait until it answers queries."""
        with (self._folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program, f"--config.file={self._folder}/prometheus.yml",
                    f"--storage.tsdb.path={self._folder}/tsdb", f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        wait_for_port(self.port, self._process)
        deadline, pause = time.monotonic() + START_S, threading.Event()
        while not self._ready():
            assert time.monotonic() < deadline, (self._folder / "prometheus.log").read_text()[-2000:]
            pause.wait(0.1)

    def _ready(self) -> bool:
        """Whether its write-ahead log is read: until then every query is a 503."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression, now."""
        found: list[dict[str, Any]] = self._ask("query", {"query": expression})["result"]
        return found

    def firing(self) -> dict[str, Mapping[str, str]]:
        """Alerts that fire, by name, with the labels of one of them."""
        alerts = self._ask("alerts", {})["alerts"]
        return {each["labels"]["alertname"]: each["labels"] for each in alerts if each["state"] == "firing"}

    def until_firing(self, name: str, within_s: float = 60.0) -> Mapping[str, str]:
        """Wait for an alert; its labels."""
        deadline, pause = time.monotonic() + within_s, threading.Event()
        while name not in (firing := self.firing()):
            assert time.monotonic() < deadline, f"{name} did not fire; {sorted(firing)} did"
            pause.wait(0.2)
        return firing[name]

    def _ask(self, what: str, arguments: Mapping[str, str]) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]


@contextmanager
def prometheus(folder: Path, port: int, **how: Any) -> Iterator[Prometheus]:
    """A running one for the block."""
    server = Prometheus(folder, port, **how)
    server.start()
    try:
        yield server
    finally:
        server.stop()
