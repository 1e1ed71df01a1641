"""Learn from the other workers, in the background at start, what was revoked while this one was not there."""

from __future__ import annotations

import logging
import threading
import time

from opsq.control.mailer import Asking, Call, Mailer
from opsq.core.worker.answers import take_revoked
from opsq.core.worker.station import Station
from opsq.errors import OpsqError
from opsq.wire.control import Reply

log = logging.getLogger(__name__)

WAIT_S = 1.0


class Mingle:
    """One ``hello`` to everybody. Thread: ``start`` and ``stop`` from any."""

    def __init__(self, station: Station, mailer: Mailer) -> None:
        self._station = station
        arguments = {"from_node": station.plan.hostname, "revoked": list(station.ledger.revoked)}
        self._asking = Asking(mailer, Call(command="hello", arguments=arguments, timeout_s=WAIT_S), self._heard)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Ask, without waiting for the answers."""
        self._thread = threading.Thread(target=self._main, name="opsq-mingle", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Wait for answers no longer. Harmless twice."""
        self._asking.stop()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _main(self) -> None:
        try:
            self._asking.run()
        except OpsqError as exc:
            log.info("other workers could not be asked what was revoked", extra={"error": str(exc)})
        except Exception:  # boundary: what is learned here is a courtesy, the worker works without it
            log.exception("asking other workers failed")

    def _heard(self, reply: Reply) -> None:
        if reply.hostname == self._station.plan.hostname or not isinstance(reply.value, dict):
            return
        new = take_revoked(self._station, reply.value.get("revoked"))
        log.info("met a worker", extra={"node": reply.hostname, "revoked_ids_learned": new})
