"""What each signal does to a worker in each state: one table, which ``docs/worker.md`` shows.

Pure. Numbers are Celery's where Celery says something; what differs is said at the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from opsq.errors import ExitCode


class Phase(IntEnum):
    """How far a worker has got with ending; it only goes up.

    WARM: takes nothing new, what runs may finish. SOFT: what runs may finish within
    ``worker_soft_shutdown_timeout``. COLD: what runs goes back to the broker. GONE: the process ends
    here and now; the broker gives back what it held.
    """

    RUNNING = 0
    WARM = 1
    SOFT = 2
    COLD = 3
    GONE = 4


_R, _W, _S, _C, _G = Phase

# Signal → the phase that follows RUNNING, WARM, SOFT and COLD. Other than in Celery, TERM repeats:
# a second one hurries, because most people's second TERM means that. It never goes beyond COLD, so that a
# supervisor that sends TERM twice cannot interrupt the giving back.
NEXT: Final[Mapping[str, tuple[Phase, Phase, Phase, Phase]]] = {
    "SIGTERM": (_W, _S, _C, _C),
    "SIGINT": (_W, _S, _C, _G),
    "SIGQUIT": (_S, _S, _C, _G),
    "SIGHUP": (_W, _W, _S, _C),
}
SAME_REQUEST_S: Final = 1.0
"""A TERM so soon after another signal is the same request: systemd tells every process of a service at
once, and the supervisor of those processes then tells each again."""


def answer(signal: str, phase: Phase, since_s: float, soft: bool) -> tuple[Phase, int]:
    """Return the phase that ``signal`` leads to, and the exit code it asks for.

    since_s: seconds since the signal before. soft: whether there is a soft wait at all; without one
    SOFT is passed over.
    """
    following = NEXT[signal][phase] if phase < _G else _G
    if signal in ("SIGTERM", "SIGHUP") and phase > _R and since_s < SAME_REQUEST_S:
        following = phase
    if following == _S and not soft:
        following = _C
    return following, exit_code(signal, phase, following)


def exit_code(signal: str, phase: Phase, following: Phase) -> int:
    """0 when what ran was let finish; 1 (Celery's) after INT, QUIT, or when it was cut short by a signal."""
    orderly = signal in ("SIGTERM", "SIGHUP") and (following <= _W or following == phase)
    return ExitCode.OK if orderly else ExitCode.FAILURE
