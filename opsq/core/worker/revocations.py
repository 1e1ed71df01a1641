"""Revoked stamps, and the file that keeps revocations across restarts."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from opsq.core.worker.ledger import RevokedIds
from opsq.wire.task import TaskHeaders

log = logging.getLogger(__name__)

Stamp = tuple[str, str]


class RevokedStamps:
    """Stamps whose tasks must not run; bounded in number and age. Thread: any."""

    def __init__(self, max_stamps: int, expires_s: float) -> None:
        self._max = max_stamps
        self._expires_s = expires_s
        self._stamps: OrderedDict[Stamp, float] = OrderedDict()

    def add(self, name: str, value: object, age_s: float = 0.0) -> None:
        """Revoke what is stamped ``name`` with ``value``."""
        key = (name, str(value))
        self._stamps[key] = time.monotonic() - age_s
        self._stamps.move_to_end(key)
        while len(self._stamps) > self._max:
            self._stamps.popitem(last=False)

    def ages(self) -> dict[Stamp, float]:
        """The stamps that count still, with the seconds since each was revoked."""
        now = time.monotonic()
        return {each: now - at for each, at in self._stamps.copy().items() if now - at < self._expires_s}

    def covers(self, headers: TaskHeaders) -> bool:
        """Whether one of the stamps of a task was revoked."""
        if not self._stamps:
            return False
        now = time.monotonic()
        stamps = self._stamps
        return any(
            (at := stamps.get(each)) is not None and now - at < self._expires_s
            for each in stamps_of(headers, headers.stamped_headers or ())
        )


def stamps_of(headers: TaskHeaders, names: Iterable[str]) -> list[Stamp]:
    """The stamps of a task under these names; a stamp with several values counts several times."""
    found = []
    for name in names:
        value = headers.stamps.get(name)
        values = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
        found += [(name, str(each)) for each in values]
    return found


class Keeper:
    """Writes revocations to the file of ``worker_state_db``; does nothing without one. Thread: one at a time."""

    def __init__(self, path: str | None, ids: RevokedIds, stamps: RevokedStamps) -> None:
        self._path = Path(path) if path else None
        self._ids = ids
        self._stamps = stamps

    def load(self) -> None:
        """Take in what an earlier worker has written; a file that cannot be read is reported and left out."""
        if self._path is None or not self._path.exists():
            return
        try:
            kept: Any = json.loads(self._path.read_text())
            age_s = max(0.0, time.time() - float(kept["written_at"]))
            for task_id, was_s in kept["ids"].items():
                self._ids.add(str(task_id), float(was_s) + age_s)
            for name, value, was_s in kept["stamps"]:
                self._stamps.add(str(name), value, float(was_s) + age_s)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            log.error("revoked ids could not be read", extra={"file": str(self._path), "error": repr(exc)})

    def save(self) -> None:
        """Write everything, so that a crash leaves the old file or the new one."""
        if self._path is None:
            return
        kept: Mapping[str, Any] = {
            "written_at": time.time(),
            "ids": self._ids.ages(),
            "stamps": [[name, value, age_s] for (name, value), age_s in self._stamps.ages().items()],
        }
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(kept, file)
            beside.replace(self._path)
        except OSError as exc:
            log.error("revoked ids could not be kept", extra={"file": str(self._path), "error": repr(exc)})
