"""An installed chart on a node of this machine: its pods, its page, a client, and the ledger of its tasks."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opsq import Opsq
from tests.chaos.ledger import Ledger
from tests.helm.chart import VALUES, one, render
from tests.helm.pod import Node, Pod
from tests.servers import free_port

MINIMAL = next(path for path in VALUES if path.stem == "minimal")


class Site:
    """What ``helm install`` with these values gives. Thread: one."""

    def __init__(self, folder: Path, broker: str, values: Path = MINIMAL, **sets: Any) -> None:
        self.port = free_port()
        self.ledger_path = folder / "ledger"
        given = {"app": "shop", "broker__url": broker, "monitor__port": self.port, **sets}
        self.manifests = render(values, **given)
        self.node = Node(self.manifests, folder, {"LEDGER": str(self.ledger_path)})
        self.client = Opsq("client", broker=broker, set_as_current=False, task_ignore_result=True)

    def start(self, part: str) -> Pod:
        """Start a pod of a Deployment, by the end of its name."""
        return self.node.start(one(self.manifests, "Deployment", f"-{part}"))

    def send(self, numbers: range, milliseconds: float) -> None:
        """Call tasks and note that they were confirmed."""
        for number in numbers:
            self.client.send_task("shop.work", (number, milliseconds))
            with self.ledger_path.open("a") as ledger:
                ledger.write(f"C {number}\n")

    def ledger(self) -> Ledger:
        """What happened until now."""
        text = self.ledger_path.read_text() if self.ledger_path.exists() else ""
        return Ledger.of(text[: text.rfind("\n") + 1].splitlines())

    def page(self, path: str, *, token: str = "", host: str = "") -> bytes:
        """Ask the monitor as admin, or with a token, by a name of its Service."""
        secret = one(self.manifests, "Secret", "-admin")["metadata"]["name"]
        login = base64.b64encode(f"admin:{self.node.secret(secret, 'password')}".encode()).decode()
        headers = {"Authorization": f"Bearer {token}" if token else f"Basic {login}"}
        if host:
            headers["Host"] = host
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def json(self, path: str, **how: Any) -> Any:
        """The same, read as JSON."""
        return json.loads(self.page(path, **how))

    def close(self) -> None:
        """End everything."""
        self.node.close()
        self.client.close()


@contextmanager
def installed(folder: Path, broker: str, values: Path = MINIMAL, **sets: Any) -> Iterator[Site]:
    """A site for the block."""
    site = Site(folder, broker, values, **sets)
    try:
        yield site
    finally:
        site.close()
