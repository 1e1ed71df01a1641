"""What a worker does with the remote commands that it hears."""

from __future__ import annotations

import logging
from typing import Any

from opsq.core.worker.ears import SILENT, Ears, Wires
from opsq.core.worker.handlers import run
from opsq.core.worker.probes import Probe
from opsq.core.worker.station import Station
from opsq.wire.control import Request

log = logging.getLogger(__name__)


class ControlMailbox:
    """A worker's ears. Thread: ``start`` and ``stop`` from any.

    probe: told ``listening`` each time requests are heard again, for tests.
    """

    def __init__(self, station: Station, wires: Wires, probe: Probe = None) -> None:
        self._station = station
        self._probe = probe
        self._deaf_once = False
        self._ears = Ears(
            wires, self._answer, lamport=station.lamport, count=station.ledger.count, on_listening=self._listening
        )

    def start(self) -> None:
        """Start listening in the background."""
        self._ears.start()

    def stop(self, deadline: float) -> None:
        """Listen no longer, by ``deadline`` (monotonic seconds). Harmless twice."""
        self._ears.stop(deadline)

    def _answer(self, request: Request) -> Any:
        command, answer = run(self._station, request)
        silent = command is not None and command.silent and not isinstance(answer, dict)
        return SILENT if silent else answer

    def _listening(self) -> None:
        log.debug("listening for remote commands")
        if self._deaf_once:
            self._station.read_standing_orders()
        self._deaf_once = True
        if self._probe is not None:
            self._probe("listening", "", None)
