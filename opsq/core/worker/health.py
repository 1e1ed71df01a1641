"""The health port: ``/live`` says whether the process works, ``/ready`` whether it takes tasks.

Liveness never depends on the broker: restarting workers because a broker is away makes an outage
longer. HTTP is read and written here in a few lines, because ``http.server`` would cost every worker
its import.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from opsq.core.worker.plan import WorkerPlan
from opsq.errors import ExitCode, OpsqError

log = logging.getLogger(__name__)

TICK_MAX_S: Final = 60.0
"""Longer than any time-out towards a broker, so that only a loop that hangs for itself counts as dead."""
CLIENT_S: Final = 2.0
REQUEST_MAX: Final = 4096
Answer = tuple[bool, dict[str, object]]


class HealthPortTaken(OpsqError):
    """The health port cannot be opened."""

    exit_code = ExitCode.CANNOT_CREATE


def live(plan: WorkerPlan) -> Answer:
    """Whether the owner thread lives and has turned its loop lately. Thread: any."""
    owner = plan.owner
    if owner is None:
        return True, {"reason": "starting"}
    age_s = round(plan.clock.monotonic() - owner.ticked_at, 3)
    if not owner.is_alive():
        return False, {"reason": "the owner thread has ended"}
    if owner.consumer is not None and age_s > TICK_MAX_S:
        return False, {"reason": f"the owner loop has not turned for {age_s:.0f} s", "tick_age_s": age_s}
    return True, {"reason": "the owner loop turns", "tick_age_s": age_s, "connected": owner.consumer is not None}


def ready(plan: WorkerPlan) -> Answer:
    """Whether tasks are being taken. Thread: any."""
    owner, pool = plan.owner, plan.pool
    if owner is None or pool is None:
        return False, {"reason": "starting"}
    if owner.paused:
        return False, {"reason": "stopping"}
    if owner.consumer is None:
        return False, {"reason": "no connection to the broker", "failures": owner.failures}
    facts: dict[str, object] = {"reason": "consuming", "queues": list(owner.consumer.queues), "slots": pool.slots}
    return True, facts


class HealthServer:
    """Answers on a thread of its own, one request after the other. Thread: any.

    checks: path → what to answer. port 0 takes any free one; ``port`` says which. shared: two workers
    may have the port for a while, as when one takes over from the other.
    Raises: HealthPortTaken.
    """

    def __init__(self, host: str, port: int, checks: Mapping[str, Callable[[], Answer]], shared: bool = False) -> None:
        self._checks = checks
        self._stopping = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=16, reuse_port=shared)
        except OSError as error:
            raise HealthPortTaken(f"cannot open the health port {host}:{port}: {error.strerror or error}") from error
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="opsq-health", daemon=True)

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port. Harmless twice."""
        self._stopping.set()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept, which a mere close does not
        except OSError:
            log.debug("the health port was closed already")
        self._socket.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                self._stopping.wait(0.1)  # out of descriptors, say: a busy loop would make it worse
                continue
            with client:
                self._answer_one(client)

    def _answer_one(self, client: socket.socket) -> None:
        try:
            request = _read(client, time.monotonic() + CLIENT_S)
            client.sendall(self.respond(request))
        except OSError as error:
            log.debug("a health probe went away", extra={"error": str(error)})

    def respond(self, request: bytes) -> bytes:
        """Answer one request, given its head."""
        words = request.split(b"\r\n", 1)[0].split()
        method, target = [*words, b"", b""][:2]
        path = target.split(b"?", 1)[0].decode("latin-1")
        check = self._checks.get(path)
        facts: dict[str, object]
        if method not in (b"GET", b"HEAD"):
            status, facts = "405 Method Not Allowed", {"reason": "only GET is answered here"}
        elif check is None:
            status, facts = "404 Not Found", {"reason": f"there are {' and '.join(self._checks)}"}
        else:
            good, facts = check()
            status = "200 OK" if good else "503 Service Unavailable"
        body = (json.dumps({"status": "ok" if status == "200 OK" else "failing"} | facts) + "\n").encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == b"HEAD" else body)


def _read(client: socket.socket, deadline: float) -> bytes:
    """Read the head of a request; whatever came when it is too long or takes too long."""
    data = b""
    while b"\r\n\r\n" not in data and len(data) < REQUEST_MAX:
        client.settimeout(max(0.01, deadline - time.monotonic()))
        piece = client.recv(REQUEST_MAX)
        if not piece:
            break
        data += piece
    return data
