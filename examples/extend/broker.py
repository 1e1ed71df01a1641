"""A broker: any kombu transport, under a URL scheme of its own.

In the package that brings it, pyproject.toml says:

[project.entry-points."opsq.brokers"]
folder = "examples.extend.broker:Transport"

Then ``broker_url = "folder:///var/spool/shop"`` works for apps, workers and the monitor. This one keeps a message
in a file and a queue in a folder; kombu's virtual transport makes exchanges, bindings and acknowledgements of it.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any
from urllib.parse import quote

from kombu.transport import virtual


class Channel(virtual.Channel):
    """Queues as folders. Names of files begin with the time, so that the oldest message is the first."""

    @property
    def root(self) -> Path:
        """The folder of all queues."""
        return Path("/" + str(self.connection.client.virtual_host).lstrip("/"))

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        folder = self._folder(queue)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}"
        beside = folder / f".{name}"
        beside.write_text(json.dumps(message))
        beside.rename(folder / name)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        for path in self._messages(queue):
            taken = path.with_name(f".{path.name}-{os.getpid()}")
            try:
                path.rename(taken)  # of several consumers only one can do this
            except FileNotFoundError:
                continue
            message: dict[str, Any] = json.loads(taken.read_text())
            taken.unlink()
            return message
        raise Empty

    def _size(self, queue: str) -> int:
        return len(self._messages(queue))

    def _purge(self, queue: str) -> int:
        messages = self._messages(queue)
        for path in messages:
            path.unlink(missing_ok=True)
        return len(messages)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return self._folder(queue).is_dir()

    def _new_queue(self, queue: str, **_: Any) -> None:
        self._folder(queue).mkdir(parents=True, exist_ok=True)

    def _folder(self, queue: str) -> Path:
        return self.root / quote(queue, safe="")

    def _messages(self, queue: str) -> list[Path]:
        return sorted(self._folder(queue).glob("[0-9]*"))


class Transport(virtual.Transport):
    """The transport."""

    Channel = Channel
    driver_type = "folder"
    driver_name = "folder"
    # Bindings are kept in the process, so every process must declare what it uses, and opsq does.
    global_state: Any = virtual.BrokerState()  # type: ignore[no-untyped-call]
    polling_interval = 0.05

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)  # type: ignore[no-untyped-call]
        self.state = self.global_state

    def driver_version(self) -> str:
        """For reports."""
        return "1"
