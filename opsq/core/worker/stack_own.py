"""Which frames of a stack are the task's own: what called it is the same each time, and of no interest. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
#: Whose frame calls the task, and where everything of ours lies.
RUNNER: Final = str(_HERE / "execute.py")
OURS: Final = f"{_HERE.parent.parent}/"


def own_from(files: Sequence[str]) -> int:
    """Where the task's own frames begin. files: of each frame, outermost first; 0 when no task is run there."""
    if RUNNER not in files:
        return 0
    called = files.index(RUNNER) + 1
    own = next((at for at in range(called, len(files)) if not files[at].startswith(OURS)), called)
    return min(own, len(files) - 1)


def is_ours(files: Sequence[str]) -> bool:
    """Whether it is a thread of opsq's that runs no task."""
    return RUNNER not in files and any(file.startswith(OURS) for file in files)
