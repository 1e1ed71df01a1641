"""How each state looks and is called: one shape, one word, one hue. And the limits beyond which it is trouble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Face:
    """A state as the eye meets it. css: its hue class. icon: id in the sprite."""

    word: str
    css: str
    icon: str


TASK_FACES: Final[Mapping[str, Face]] = MappingProxyType(
    {
        "PENDING": Face("waiting", "waiting", "waiting"),
        "SENT": Face("waiting", "waiting", "waiting"),
        "RECEIVED": Face("prefetched", "prefetched", "prefetched"),
        "STARTED": Face("running", "running", "running"),
        "SUCCESS": Face("ok", "ok", "ok"),
        "RETRY": Face("retry", "retry", "retry"),
        "FAILURE": Face("failed", "failed", "failed"),
        "REVOKED": Face("revoked", "revoked", "revoked"),
        "REJECTED": Face("rejected", "revoked", "revoked"),
        "IGNORED": Face("ignored", "ok", "ok"),
        "LOST": Face("lost", "lost", "lost"),
    }
)
HELD: Final = Face("held", "held", "held")
UNKNOWN: Final = Face("unknown", "unknown", "unknown")

WORKER_FACES: Final[Mapping[str, Face]] = MappingProxyType(
    {
        "online": Face("up", "ok", "ok"),
        "late": Face("late", "late", "late"),
        "lost": Face("lost", "lost", "lost"),
        "offline": Face("stopped", "revoked", "none"),
    }
)

STATE_BY_WORD: Final[Mapping[str, str]] = MappingProxyType(
    {"waiting": "PENDING", **{face.word: state for state, face in TASK_FACES.items() if state != "SENT"}}
)

FINISHED: Final = frozenset({"SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"})
MOVING: Final = frozenset({"PENDING", "SENT", "RECEIVED", "STARTED", "RETRY"})


def task_face(state: str) -> Face:
    """Give the face of a task's state; a state of somebody else's keeps its own word."""
    return TASK_FACES.get(state) or Face(state.lower() or UNKNOWN.word, UNKNOWN.css, UNKNOWN.icon)


def worker_face(status: str) -> Face:
    """Give the face of a worker's status."""
    return WORKER_FACES.get(status) or Face(status or UNKNOWN.word, UNKNOWN.css, UNKNOWN.icon)


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as trouble on every page.

    oldest_s: target for the oldest waiting task of a queue. failed_share: of the runs of five minutes, once
    failed_least of them failed. lag_s: how far events may run behind.
    """

    oldest_s: float = 60.0
    failed_share: float = 0.1
    failed_least: int = 20
    lag_s: float = 5.0


LIMITS: Final = Limits()
