"""Fields of events by plan and one by one: the same, only faster."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opsq.events.fields import FIELDS, clean_fields, pick
from opsq.events.fields import _clean_closely as closely
from opsq.wire.event import Event

TEXTS = ("name", "args", "kwargs", "root_id", "parent_id", "exchange", "queue", "pool", "eta", "result", "exception")
NUMBERS = ("runtime", "published_at", "started_at", "cpu_s", "rss_bytes", "child_pid", "retries")
ID = "a" * 32
TEXT = st.one_of(st.none(), st.text(max_size=40), st.sampled_from(["", ID, "x" * 33, "x" * 257, "x" * 5_000]))
NUMBER = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans(), st.sampled_from([2**53, 1.5])
)
ODD = st.dictionaries(st.sampled_from(["unheard", "!bad", "seq", "signum"]), st.one_of(TEXT, NUMBER), max_size=1)


def event(fields: dict[str, object]) -> Event:
    return Event(kind="task-succeeded", hostname="w@h", timestamp=1.0, uuid=ID, fields=fields)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(TEXTS, TEXT) | dict.fromkeys(NUMBERS, NUMBER)),
    ODD,
    st.integers(0, 20),
)
def test_a_plan_says_what_a_close_look_says(fields: dict[str, object], odd: dict[str, object], attempt: int) -> None:
    told = event(fields | odd)
    own, plan, shared = clean_fields(told, attempt)
    if plan is not None:
        shared = pick(plan.shared, told.fields)
    exact_own, exact_shared = closely(told, attempt)
    assert (own, [*own]) == (exact_own, [*exact_own]), "also in the same order"
    assert (shared, [*shared]) == (exact_shared, [*exact_shared])


def test_what_most_events_say_is_planned() -> None:
    received = {"name": "shop.pay", "args": "(1,)", "kwargs": "{}", "root_id": ID, "parent_id": None, "retries": 0}
    _, plan, _ = clean_fields(event(received), 1)
    assert plan is not None
    assert [*pick(plan.shared, received)] == [FIELDS["name"], FIELDS["args"], FIELDS["kwargs"]]
    long = {"exchange": "", "args": "x" * 4096, "runtime": 0.5}
    assert clean_fields(event(long), 1)[1] is not None
