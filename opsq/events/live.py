"""Tasks in memory: their evidence as bytes, bounded by bytes; finished tasks leave first, then the quietest.

Leaving costs nothing but a read: the store has every task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: What a task costs beyond its evidence: two dictionary entries, the id and the headers of the objects.
OVERHEAD_BYTES: Final = 200
_KEY_BYTES: Final = 8


class LiveTasks:
    """Evidence by task id. Thread: the writer's; ``len`` and ``bytes`` may be read from any."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # One bytes object a task, the row's key before the evidence: a tuple would cost 90 bytes more.
        self._open: dict[str, bytes] = {}
        self._finished: dict[str, bytes] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._open) + len(self._finished)

    def __contains__(self, id: str) -> bool:
        return id in self._open or id in self._finished

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Those of these tasks that are not in memory."""
        opened, finished = self._open, self._finished
        return [id for id in ids if id not in opened and id not in finished]

    def get(self, id: str) -> tuple[int, bytes] | None:
        """The row key and evidence of a task."""
        data = self._open.get(id) or self._finished.get(id)
        return None if data is None else (int.from_bytes(data[:_KEY_BYTES]), data[_KEY_BYTES:])

    def put(self, id: str, key: int, evidence: bytes, *, finished: bool) -> None:
        """Keep the evidence of a task, as the one heard of last."""
        known = self._open.pop(id, None) or self._finished.pop(id, None)
        if known is not None:
            self.bytes -= len(known) + OVERHEAD_BYTES
        data = key.to_bytes(_KEY_BYTES) + evidence
        (self._finished if finished else self._open)[id] = data
        self.bytes += len(data) + OVERHEAD_BYTES

    def shrink(self) -> None:
        """Let tasks go until the bound holds. Only after their rows have been stored."""
        surplus = self.bytes - self._max_bytes
        for tasks in (self._finished, self._open):
            leaving = []
            # One pass, then the deletions: taking the first key again and again walks over all that were deleted.
            for id, data in tasks.items():
                if surplus <= 0:
                    break
                leaving.append(id)
                surplus -= len(data) + OVERHEAD_BYTES
            for id in leaving:
                self.bytes -= len(tasks.pop(id)) + OVERHEAD_BYTES

    def drop(self, ids: Iterable[str]) -> None:
        """Let go of these tasks."""
        for id in ids:
            data = self._open.pop(id, None) or self._finished.pop(id, None)
            if data is not None:
                self.bytes -= len(data) + OVERHEAD_BYTES

    def forget_before(self, key: int) -> None:
        """Let go of tasks whose rows were removed: those with a smaller key."""
        for tasks in (self._open, self._finished):
            for id in [id for id, data in tasks.items() if int.from_bytes(data[:_KEY_BYTES]) < key]:
                self.bytes -= len(tasks.pop(id)) + OVERHEAD_BYTES
