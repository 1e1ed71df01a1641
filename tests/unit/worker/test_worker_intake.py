"""The decision alone: every kind of delivery, and nothing that raises."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.broker.message import Delivery
from opsq.core.worker.intake import Expired, Hold, Intake, Malformed, Revoked, Run, Unknown
from opsq.core.worker.policy import Policy
from opsq.wire.content import JSON_ONLY, Limits

NOW = 1_800_000_000.0
POLICY = Policy(
    task="t", acks_late=True, acks_on_failure=True, acks_on_timeout=True, reject_on_worker_lost=True,
    soft_limit_s=5.0, hard_limit_s=None, rate_per_s=0.0, send_events=True, ignore_result=False,
)  # fmt: skip
INTAKE = Intake(lambda name: POLICY if name == "t" else None, JSON_ONLY, Limits(max_bytes=1000), {"revoked"})


def delivery(headers: dict[str, Any], body: bytes = b"[[],{},{}]", content_type: str = "application/json") -> Delivery:
    return Delivery(
        body=body, content_type=content_type, content_encoding="utf-8", headers=headers, properties={},
        exchange="", routing_key="celery", priority=0,
    )  # fmt: skip


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def decide(**headers: Any) -> Any:
    return INTAKE.decide(delivery({"task": "t", "id": "i", **headers}), NOW)


def test_run() -> None:
    decision = decide()
    assert type(decision) is Run
    assert decision.policy.limits(decision.headers) == (5.0, None)
    assert decision.policy.limits(decide(timelimit=[9, 2]).headers) == (2, 9)


def test_hold_until_its_time() -> None:
    decision = decide(eta=iso(NOW + 10))
    assert type(decision) is Hold
    assert decision.until == NOW + 10
    assert type(decide(eta=iso(NOW - 10))) is Run
    assert type(decide(eta="9999-12-31T23:59:59+00:00")) is Hold


def test_a_naive_eta_is_utc() -> None:
    assert decide(eta=iso(NOW + 10).removesuffix("+00:00")).until == NOW + 10


def test_expired_wins_over_revoked_and_eta() -> None:
    assert type(decide(id="revoked", expires=iso(NOW - 1), eta=iso(NOW + 9))) is Expired
    assert type(decide(expires=iso(NOW + 1))) is Run


def test_revoked_and_unknown() -> None:
    assert type(decide(id="revoked")) is Revoked
    assert type(decide(task="other", id="revoked")) is Unknown


def test_refusals_say_why() -> None:
    large = INTAKE.decide(delivery({"task": "t", "id": "i"}, body=b"x" * 1001), NOW)
    assert isinstance(large, Malformed)
    assert large.reason == "expected a body of at most 1000 bytes, got 1001 at $body"
    foreign = INTAKE.decide(delivery({"task": "t", "id": "i"}, content_type="application/x-yaml"), NOW)
    assert isinstance(foreign, Malformed)
    assert (foreign.kind, "application/x-yaml" in foreign.reason) == ("untrusted", True)
    assert len(INTAKE.decide(delivery({"h" * 5000: 1}, body=b"\xff" * 900), NOW).sample) <= 1024


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["task", "id", "eta", "expires", "timelimit", "retries", "group", "stamps", "origin", "compression"]
)


@pytest.mark.parametrize("content_type", ["application/octet-stream", None])
def test_what_is_no_message_at_all_is_called_so(content_type: Any) -> None:
    refused = INTAKE.decide(delivery({}, body=b"LPUSH by hand", content_type=content_type), NOW)
    assert "no envelope" in str(refused)


@given(st.dictionaries(NAMES | st.text(max_size=5), JSONISH, max_size=8), st.binary(max_size=50))
def test_never_raises(headers: dict[str, Any], body: bytes) -> None:
    decision = INTAKE.decide(delivery(headers, body), NOW)
    assert isinstance(decision, Run | Hold | Expired | Revoked | Unknown | Malformed)
