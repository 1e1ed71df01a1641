"""An append-only ledger that the tasks themselves write, to hold the monitor's numbers against."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path


class Ledger:
    """Lines of ``what id`` in one file. Thread and process: any; one write is one line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, what: str, task_id: str) -> None:
        """Append one line; the kernel keeps lines of several processes apart."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, f"{what} {task_id}\n".encode())
        finally:
            os.close(handle)

    def counts(self) -> Counter[str]:
        """Count the lines of each kind."""
        if not self.path.exists():
            return Counter()
        return Counter(line.split(" ", 1)[0] for line in self.path.read_text().splitlines())

    def ids(self, what: str) -> set[str]:
        """The ids noted as ``what``."""
        if not self.path.exists():
            return set()
        pairs = (line.split(" ", 1) for line in self.path.read_text().splitlines())
        return {found for kind, found in pairs if kind == what}
