"""The states a task can be in, by Celery's names, and which of them end it.

Source: Celery protocol, section "states". A state is plain text because tasks may invent their own.
"""

from __future__ import annotations

PENDING = "PENDING"
RECEIVED = "RECEIVED"
STARTED = "STARTED"
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVOKED = "REVOKED"
REJECTED = "REJECTED"
RETRY = "RETRY"
IGNORED = "IGNORED"

#: The task has ended; what is stored is final.
READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
#: The task may still run.
UNREADY_STATES = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
#: The stored result is an exception.
EXCEPTION_STATES = frozenset({RETRY, FAILURE, REVOKED})
#: The exception is raised at whoever asks for the result.
PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
ALL_STATES = READY_STATES | UNREADY_STATES | {IGNORED}

_CUSTOM = None
_ORDER: tuple[str | None, ...] = (
    SUCCESS,
    FAILURE,
    _CUSTOM,
    REVOKED,
    STARTED,
    RECEIVED,
    REJECTED,
    RETRY,
    PENDING,
)
_RANK = {state: rank for rank, state in enumerate(_ORDER)}


def precedence(state: str) -> int:
    """Rank a state by how much it says: 0 is the strongest; a state invented by a task ranks after FAILURE."""
    return _RANK.get(state, _RANK[_CUSTOM])
