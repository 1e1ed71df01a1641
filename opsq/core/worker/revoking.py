"""The remote commands that revoke tasks, named as in the table of commands."""

from __future__ import annotations

import logging
import signal as signals
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from opsq.control.standing import orders_of, stamps_of_arguments
from opsq.core.worker.ledger import Entry
from opsq.core.worker.revocations import stamps_of
from opsq.core.worker.station import Station
from opsq.errors import TaskRevokedError, Unavailable, UsageError
from opsq.wire.result import ResultMeta

log = logging.getLogger(__name__)

# A state that another worker, or the task itself, has set since is left alone.
REVOCABLE = frozenset({"PENDING", "RECEIVED", "RETRY", "REJECTED"})

Answer = dict[str, str]


def revoke(station: Station, task_id: str | Sequence[str], terminate: bool, signal: Any, for_s: float | None) -> Answer:
    """Do not run these tasks; with ``terminate``, stop those that run."""
    ids = list(dict.fromkeys([task_id] if isinstance(task_id, str) else task_id))
    signum = signal_number(signal) if terminate else None
    _hold(station, "revoke", {"task_id": ids, "for_s": for_s})
    entries = station.ledger.by_id(ids)
    started = {entry.headers.id for entry in entries if entry.started_at is not None}
    station.call_off(entries)
    _store_revoked(station, [each for each in ids if each not in started])
    if not terminate:
        return {"ok": f"tasks {set(ids)} flagged as revoked"}
    known = dict.fromkeys(entry.headers.id for entry in entries)
    _stop(station, entries, signum)
    return {"ok": f"terminate: {', '.join(known)}" if known else "terminate: tasks unknown"}


def terminate(station: Station, signal: Any, task_id: str | Sequence[str], for_s: float | None) -> Answer:
    """Revoke these tasks, and stop those that run with ``signal``."""
    return revoke(station, task_id, True, signal, for_s)


def revoke_by_stamped_headers(
    station: Station, headers: Any, terminate: bool, signal: Any, for_s: float | None
) -> Answer:
    """Revoke the tasks with one of these stamps, now and when they come."""
    wanted = stamps_of_arguments(headers)
    signum = signal_number(signal)
    _hold(station, "revoke_by_stamped_headers", {"headers": wanted, "for_s": for_s})
    matching = [entry for entry in station.entries() if _matched(entry, wanted)]
    station.call_off(matching)
    shown = dict(zip(wanted, headers.values(), strict=True)) if isinstance(headers, Mapping) else _unlisted(wanted)
    if not terminate:
        return {"ok": f"headers {shown} flagged as revoked, but not terminated"}
    running = [entry for entry in matching if entry.started_at is not None]
    _stop(station, running, signum)
    stopped: dict[str, set[str]] = {}
    for entry in running:
        for name, value in _matched(entry, wanted):
            stopped.setdefault(name, set()).add(value)
    if not stopped:
        return {"ok": f"headers {shown} were not terminated"}
    return {"ok": f"headers {stopped} revoked"}


def signal_number(signal: Any) -> int:
    """Read a signal: a number, or a name with or without SIG; TERM by default. Raises: UsageError."""
    if signal is None or signal == "":
        return int(signals.SIGTERM)
    text = str(signal).upper()
    try:
        if text.isdecimal():
            return int(signals.Signals(int(text)))
        return int(signals.Signals[text if text.startswith("SIG") else f"SIG{text}"])
    except (KeyError, ValueError):
        raise UsageError(f"no signal is called {signal!r}; expected a name such as TERM, or a number") from None


def _hold(station: Station, command: str, arguments: Mapping[str, Any]) -> None:
    """Remember it here, in the state file and in the broker."""
    orders = orders_of(command, arguments, time.time(), station.settings.worker_revoke_expires)
    # First, and at once: what comes while the broker is written to must not run.
    station.plan.standing.apply(orders)
    station.keeper.save()
    station.obey(orders)


def _stop(station: Station, entries: Iterable[Entry], signum: int | None) -> None:
    """Stop what runs. Raises: UsageError where the pool cannot."""
    running = [entry for entry in entries if entry.started_at is not None and entry.outcome is None]
    if running and not station.pool.capabilities.terminate:
        raise UsageError(f"the {station.plan.pool_class.name} pool cannot stop a running task")
    for entry in running:
        station.pool.cancel(entry.key, "terminated", signum)


def _store_revoked(station: Station, ids: Sequence[str]) -> None:
    """Store REVOKED of what has not begun; a store that is away costs the states, not the revocation."""
    store = station.app.backend
    if not store.enabled:
        return
    try:
        known = store.load_many(ids)
        for each in ids:
            if each in known and known[each].status not in REVOCABLE:
                continue
            now = datetime.now(UTC).isoformat()
            store.store(ResultMeta(task_id=each, status="REVOKED", result=TaskRevokedError("revoked"), date_done=now))
    except Unavailable as exc:
        station.ledger.count("states_not_stored")
        log.error("revoked tasks could not be marked in the result store", extra={"error": str(exc)})


def _unlisted(stamps: Mapping[str, list[str]]) -> dict[str, Any]:
    return {name: values[0] if len(values) == 1 else values for name, values in stamps.items()}


def _matched(entry: Entry, wanted: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in stamps_of(entry.headers, wanted) if value in wanted[name]]
