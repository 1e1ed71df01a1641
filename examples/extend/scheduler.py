"""A scheduler: entries from a JSON file, which is read again every few seconds.

    {"poll": {"task": "shop.poll", "schedule": "30s"}}

All else (one leader, catching up, remote control) is opsq's.

app.conf.beat_scheduler = "examples.extend.scheduler:FileScheduler"
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from opsq.core.beat.scheduler import Scheduler
from opsq.core.schedules.entry import Entry, entries_from
from opsq.errors import ConfigError

NAME = "schedule.json"


class FileScheduler(Scheduler):
    """Reads ``schedule.json`` in the app's ``data_dir``, beside what the code asks for."""

    refresh_s: ClassVar[float | None] = 5.0

    def entries(self) -> Mapping[str, Entry]:
        """What the code and the file ask for. Raises: ConfigError for a file that cannot be read."""
        path = Path(self.app.settings.data_dir) / NAME
        try:
            table = json.loads(path.read_text()) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from error
        return {**super().entries(), **entries_from(table, self.app)}
