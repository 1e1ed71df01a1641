"""What is kept of a message that is set aside, and how it goes back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.broker.message import Delivery
from opsq.core.pools.base import Job, Outcome
from opsq.core.pools.verdicts import process_died
from opsq.core.worker.quarantine import (
    DEATHS_KEPT,
    EVIDENCE_HEADER,
    Evidence,
    death_log,
    death_of,
    deaths_of,
    evidence_for,
    evidence_in,
    released,
    set_aside,
    with_death,
)

BODY = b"[[1], {}, {}]"
HEADERS = {"id": "id-1", "task": "shop.add", "x-request-id": "7", "compression": None}


def job(**headers: Any) -> Job:
    info = {"exchange": "shop", "routing_key": "shop.key", "priority": 3, "redelivered": False}
    properties = {"correlation_id": "id-1", "expiration": "5000", "priority": 3}
    raw = {**HEADERS, **headers}
    return Job(1, "id-1", "shop.add", raw, BODY, "application/json", "utf-8", properties, info)


def died(code: int | None, how: str = "it died") -> Outcome:
    return process_died(job(), 1.0, 2.0, 77, how, code)


def delivered(message: Any) -> Delivery:
    """What a broker would hand out again, its headers through JSON as Redis does it."""
    return Delivery(
        body=message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=json.loads(json.dumps(message.headers)),
        properties=message.properties,
        exchange=message.exchange,
        routing_key=message.routing_key,
        priority=0,
        queue="opsq.quarantine",
        tag=4,
    )


@pytest.mark.parametrize(("code", "signal", "exit_code"), [(-11, 11, None), (3, None, 3), (0, None, 0), (None,) * 3])
def test_a_death_names_its_signal_or_its_exit_code(code: int, signal: int, exit_code: int) -> None:
    death = death_of(died(code, "child process 77 'died'"), "opsq@here")
    assert (death.signal, death.exit_code, death.pid, death.worker) == (signal, exit_code, 77, "opsq@here")
    assert death.how == "child process 77 'died'"


def test_deaths_are_counted_in_the_headers() -> None:
    headers: dict[str, Any] = dict(HEADERS)
    for number in range(DEATHS_KEPT + 4):
        headers = with_death(headers, death_of(died(number), "w"))
    assert deaths_of(headers) == DEATHS_KEPT + 4
    assert [death.exit_code for death in death_log(headers)] == list(range(4, DEATHS_KEPT + 4))


@pytest.mark.parametrize("forged", [-1, True, "3", None, [1], 2.0])
def test_a_peers_own_count_is_not_believed(forged: object) -> None:
    assert deaths_of({"opsq_deaths": forged}) == 0
    assert death_log({"opsq_death_log": forged}) == []


def test_what_is_set_aside_comes_back_as_it_was() -> None:
    poison = job(**with_death({}, death_of(died(-9), "w")), **{"x-death": [], "CC": ["elsewhere"]})
    kept = set_aside(poison, evidence_for(poison, "poison", "why", "w", "shop.queue", "id-1", "shop.add"), "aside")
    assert (kept.body, kept.routing_key, kept.exchange) == (BODY, "aside", "")
    assert "expiration" not in kept.properties, "or the evidence would vanish"
    assert {key: kept.headers[key] for key in HEADERS} == HEADERS
    assert "CC" not in kept.headers, "or copies would go elsewhere"
    delivery = delivered(kept)
    evidence = evidence_in(delivery)
    assert (evidence.id, evidence.kind, evidence.queue) == ("id-1", "poison", "shop.queue")
    assert [death.signal for death in evidence.deaths] == [9]
    back = released(delivery, evidence)
    assert back is not None
    assert (back.body, back.exchange, back.routing_key) == (BODY, "", "shop.queue")
    assert back.headers == HEADERS
    assert back.properties == poison.properties


def test_without_a_queue_it_goes_to_its_exchange() -> None:
    kept = set_aside(job(), evidence_for(job(), "poison", "why", "w", None, "id-1", None), "aside")
    back = released(delivered(kept), evidence_in(delivered(kept)))
    assert back is not None
    assert (back.exchange, back.routing_key) == ("shop", "shop.key")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_evidence_can_be_read(found: object) -> None:
    delivery = delivered(set_aside(job(), evidence_for(job(), "poison", "why", "w", "q", None, None), "aside"))
    delivery.headers[EVIDENCE_HEADER] = found
    evidence = evidence_in(delivery)
    assert msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence) == evidence  # so it can be shown
    if evidence.kind == "unexplained":
        assert evidence.id == "id-1"
        assert released(delivery, evidence) is None
