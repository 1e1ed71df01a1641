"""The sets of states are Celery's, and precedence orders them all."""

from __future__ import annotations

from opsq.wire import states


def test_sets_are_celerys() -> None:
    assert {"SUCCESS", "FAILURE", "REVOKED"} == states.READY_STATES
    assert {"RETRY", "FAILURE", "REVOKED"} == states.EXCEPTION_STATES
    assert {"FAILURE", "REVOKED"} == states.PROPAGATE_STATES
    assert {"PENDING", "RECEIVED", "STARTED", "REJECTED", "RETRY"} == states.UNREADY_STATES
    assert not states.READY_STATES & states.UNREADY_STATES


def test_precedence_follows_the_protocol() -> None:
    order = ["SUCCESS", "FAILURE", "PROGRESS", "REVOKED", "STARTED", "RECEIVED", "REJECTED", "RETRY", "PENDING"]
    assert sorted(sorted(order), key=states.precedence) == order
