"""What workers can be asked from the pages, in one table: read-only orders, whose answers are shown as they come.

Beside the acts of ``acts.py``: an act changes something and is written down, a look changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Look:
    """One question. verb: last part of its path. label: of its button. command: of remote control, with arguments.

    permission: a name of ``access.permissions``. doc: what the answer is. ours: Celery's workers do not know it.
    """

    verb: str
    label: str
    permission: str
    doc: str
    command: str
    arguments: Mapping[str, Any]
    ours: bool = False

    @property
    def name(self) -> str:
        """Its name in the pages' URLs, such as ``worker-stack``."""
        return f"worker-{self.verb}"

    @property
    def path(self) -> str:
        """Its path in the API, below ``/api/v1``."""
        return f"/workers/{{id:path}}/{self.verb}"


LOOKS: Final[tuple[Look, ...]] = (
    Look("stack", "Stack dump", "act", "Where its running tasks are in their code.", "stack", {}, ours=True),
    Look("reserved", "Prefetched", "act", "Tasks that it holds and that wait for a slot.", "reserved", {}),
    Look("scheduled", "Held", "act", "Tasks that wait there for their time or their rate.", "scheduled", {}),
    Look("registered", "Registered tasks", "act", "The task types that it knows, with their rate limits.",
         "registered", {}),
    Look("consuming", "Queues", "act", "The queues that it takes from.", "active_queues", {}),
    Look("statistics", "Statistics", "act", "Its own counts, its pool, its broker, what it used.", "stats", {}),
    Look("overrides", "Changed by control", "act", "What was changed by remote control and ends by itself.",
         "overrides", {}, ours=True),
    Look("settings", "Settings", "manage", "Its settings that differ from the defaults; secrets are masked.", "conf",
         {"with_defaults": False}),
)  # fmt: skip
