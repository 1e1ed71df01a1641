"""The fold is order-free: the same set of events, the same evidence, whatever order, grouping or repetition."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsq.events import evidence as ev
from opsq.events.cluster import Cluster
from opsq.events.life import summarise
from opsq.events.store import MemoryStore
from opsq.events.tries import item, tries
from opsq.wire.event import Event

T0 = 1_790_000_000.0


def event(kind: str, at: float, clock: int | None, host: str = "w1@host", **fields: object) -> Event:
    """An event of one task, as Celery sends it."""
    return Event(kind=kind, hostname=host, timestamp=T0 + at, pid=7, clock=clock, uuid="t", fields=fields)


CALL = {"name": "shop.pay", "args": "(1,)", "kwargs": "{}", "root_id": "t"}
#: model-codebases.md 0.4: one ordinary history with a retry. The client's clock is far ahead, as Celery's are.
HISTORY = (
    event("task-sent", 0.0, 900, "gen9@web", queue="payments", exchange="", routing_key="payments", retries=0, **CALL),
    event("task-received", 0.1, 11, retries=0, **CALL),
    event("task-started", 0.2, 12),
    event("task-retried", 0.3, 13, exception="Timeout()", traceback="tb 1"),
    event("task-received", 1.1, 14, retries=1, **CALL),
    event("task-started", 1.2, 15),
    event("task-succeeded", 1.4, 16, result="'paid'", runtime=0.2),
)


def test_seven_events_are_right_in_all_5040_orders() -> None:
    """State, retries, worker, type, queue and both tries, one event at a time."""
    seen = set()
    for order in itertools.permutations(HISTORY):
        known = ev.EMPTY
        for one in order:
            known = ev.join(known, one)
        seen.add(ev.encode(known))
    assert len(seen) == 1
    known = ev.decode(seen.pop())
    shown = item(0, "t", known)
    assert (shown.state, shown.retries, shown.worker, shown.type) == ("SUCCESS", 1, "w1@host", "shop.pay")
    assert (shown.queue, shown.result, shown.tries, shown.anomalies) == ("payments", "'paid'", 2, ())
    first, second = tries(known)
    assert (first.state, first.exception, first.started_at) == ("RETRY", "Timeout()", T0 + 0.2)
    assert (second.state, second.result, second.started_at) == ("SUCCESS", "'paid'", T0 + 1.2)
    summary = summarise(known)
    assert [run.outcome for run in summary.runs] == [2, 0]


def test_the_index_by_type_is_right_in_all_5040_orders() -> None:
    """The same through the cluster: one task in one cell, and every count that of one history."""
    wrong = 0
    for order in itertools.permutations(HISTORY):
        cluster = Cluster(MemoryStore())
        for one in order:
            cluster.apply([one], T0 + 2)
        wrong += cluster.cells != {("SUCCESS", "shop.pay", "payments", "w1@host"): 1}
    assert wrong == 0


@pytest.mark.parametrize("size", range(1, 8))
def test_every_subset_agrees_with_itself(size: int) -> None:
    """Whatever part of the history arrives, its order and its duplicates do not matter."""
    dice = random.Random(size)
    for subset in itertools.combinations(HISTORY, size):
        expected = ev.fold(ev.EMPTY, subset)
        for _ in range(30):
            shuffled = [*subset, *dice.choices(subset, k=3)]
            dice.shuffle(shuffled)
            cut = dice.randrange(len(shuffled))
            known = ev.fold(ev.fold(ev.EMPTY, shuffled[:cut]), shuffled[cut:])
            assert known == expected
            assert ev.encode(known) == ev.encode(expected)


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        ((), "PENDING"),
        (("task-sent",), "PENDING"),
        (("task-received",), "RECEIVED"),
        (("task-received", "task-started"), "STARTED"),
        (("task-received", "task-started", "task-retried"), "RETRY"),
        (("task-received", "task-started", "task-failed"), "FAILURE"),
        (("task-received", "task-revoked"), "REVOKED"),
        (("task-revoked",), "REVOKED"),
        (("task-failed", "task-succeeded"), "SUCCESS"),
        (("task-succeeded", "task-received", "task-started"), "SUCCESS"),
        (("task-started", "task-ignored"), "IGNORED"),
        (("task-received", "task-cancelled"), "PENDING"),
        (("task-somersault",), "PENDING"),
    ],
)
def test_state(kinds: tuple[str, ...], state: str) -> None:
    """A final kind wins; else the latest of the latest attempt."""
    known = ev.fold(ev.EMPTY, [event(kind, n, n) for n, kind in enumerate(kinds)])
    assert ev.state(known) == state


def test_a_message_put_back_is_waiting_not_ended() -> None:
    """``Reject(requeue=True)`` is not the end, ``requeue=False`` is."""
    before = [event("task-received", 0, 1), event("task-started", 1, 2)]
    back = ev.fold(ev.EMPTY, [*before, event("task-rejected", 2, 3, requeue=True)])
    assert ev.state(back) == "REJECTED"
    assert ev.state(ev.join(back, event("task-received", 3, 4, "w2@host"))) == "RECEIVED"
    gone = ev.fold(ev.EMPTY, [*before, event("task-rejected", 2, 3, requeue=False)])
    assert ev.state(ev.join(gone, event("task-received", 3, 4))) == "REJECTED"


def test_sent_never_outranks_a_worker() -> None:
    """A client with a clock an hour ahead does not turn a running task back to waiting, nor rename it."""
    known = ev.fold(
        ev.EMPTY,
        [event("task-received", 0, 1, name="right"), event("task-sent", 3600, 10**6, "gen1@web", name="wrong")],
    )
    assert ev.state(known) == "RECEIVED"
    assert ev.registers(known)[ev.FIELDS["name"]] == "right"


def test_celery_receives_a_retry_before_it_announces_it() -> None:
    """As captured from Celery 5.7: the child publishes the retry before the parent hears of the child's end."""
    life = [
        event("task-sent", 0.0, 5, "gen1@web", retries=0),
        event("task-received", 0.002, 5, retries=0),
        event("task-started", 0.003, 6),
        event("task-sent", 0.012, 8, "gen2@web", retries=1),
        event("task-received", 0.013, 7, retries=1, eta="2027-01-01T00:00:00+00:00"),
        event("task-retried", 0.017, 8, exception="KeyError('once')"),
        event("task-started", 1.0, 9),
        event("task-succeeded", 1.1, 10, result="1", runtime=0.002),
    ]
    known = ev.fold(ev.EMPTY, life)
    assert [(one.number, one.state, one.started_at, one.result) for one in tries(known)] == [
        (1, "RETRY", T0 + 0.003, None),
        (2, "SUCCESS", T0 + 1.0, "1"),
    ]
    assert [ev.state(ev.fold(ev.EMPTY, life[:n])) for n in (5, 6, 7)] == ["RECEIVED", "RECEIVED", "STARTED"]
    # The other child may even begin before the first one's end is announced.
    overtaken = [*life[:5], event("task-started", 0.014, 7), life[5], life[7]]
    assert [(one.number, one.state) for one in tries(ev.fold(ev.EMPTY, overtaken))] == [(1, "RETRY"), (2, "SUCCESS")]


def test_a_redelivery_is_the_same_attempt_begun_twice() -> None:
    known = ev.fold(
        ev.EMPTY,
        [
            event("task-received", 0, 1, retries=0),
            event("task-started", 1, 2),
            event("task-received", 60, 3, retries=0),
            event("task-started", 61, 4),
            event("task-succeeded", 62, 5, result="1"),
        ],
    )
    shown = item(0, "t", known)
    assert (shown.tries, shown.state, shown.anomalies) == (1, "SUCCESS", ("started twice",))


def test_attempts_are_told_apart_on_hosts_with_wrong_clocks() -> None:
    """The second attempt runs on a host whose clock is a minute behind."""
    known = ev.fold(
        ev.EMPTY,
        [
            event("task-received", 0, 1, retries=0),
            event("task-started", 1, 2),
            event("task-retried", 2, 3, exception="E1"),
            event("task-received", -57, 4, "w2@host", retries=1),
            event("task-started", -56, 5, "w2@host"),
        ],
    )
    assert ev.state(known) == "STARTED"
    assert [(one.number, one.state, one.worker) for one in tries(known)] == [
        (1, "RETRY", "w1@host"),
        (2, "STARTED", "w2@host"),
    ]


def test_memory_of_a_task_is_bounded() -> None:
    """A thousand retries, unknown kinds and fields keep a bounded row, and still count."""
    events = []
    for n in range(1000):
        events.append(event("task-received", n, n, retries=n, eta="2027-01-01T00:00:00+00:00", name="a" * 10_000))
        events.append(event("task-retried", n + 0.5, n, exception="x" * 100_000))
        events.append(event(f"task-kind{n}", n, n, blob="y" * 100_000, small=n))
        events.append(event("task-progress", n, n, attempt=n + 1, pool="p", percent=n))
    known = ev.fold(ev.EMPTY, events)
    assert len(ev.encode(known)) < 150_000
    assert ev.retries(known) == 999
    shuffled = list(events)
    random.Random(1).shuffle(shuffled)
    again = ev.EMPTY
    for start in range(0, len(shuffled), 100):
        again = ev.fold(again, shuffled[start : start + 100])
    assert again == known


def test_bad_fields_are_named_not_believed() -> None:
    """A wrong type is dropped, said so, and breaks nothing."""
    known = ev.join(
        ev.EMPTY, event("task-started", 0, 1, name=7, started_at="now", rss_bytes=True, runtime=float("nan"))
    )
    assert summarise(known).anomalies == ("bad field",)
    (only,) = tries(known)
    assert only.details["!bad"] == "name,rss_bytes,runtime,started_at"


KINDS = st.sampled_from([*ev.KINDS, "task-progress", "task-zzz"])
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-5, 10**20), st.floats(), st.text(max_size=5), st.just([1]))
FIELDS = st.dictionaries(st.sampled_from([*ev.FIELDS, "retries", "attempt", "weird", ""]), VALUES, max_size=6)
EVENTS = st.builds(
    lambda kind, at, clock, host, fields: Event(
        kind=kind, hostname=host, timestamp=at, pid=1, clock=clock, uuid="t", fields=fields
    ),
    KINDS,
    st.sampled_from([-1.0, 0.0, 1.0, 2.0, 3.0, 4.2e9, float("inf"), T0]),
    st.one_of(st.none(), st.integers(-3, 10**30), st.integers(0, 3)),
    st.sampled_from(["a", "b"]),
    FIELDS,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=24), st.randoms(use_true_random=False))
def test_the_fold_is_a_lattice(events: list[Event], dice: random.Random) -> None:
    """Commutative, associative, idempotent, for events nobody would send too; and bytes are canonical."""
    whole = ev.fold(ev.EMPTY, events)
    shuffled = [*events, *events[: len(events) // 2]]
    dice.shuffle(shuffled)
    one_by_one = ev.EMPTY
    for each in shuffled:
        one_by_one = ev.join(one_by_one, each)
    assert ev.encode(one_by_one) == ev.encode(whole)
    cuts = sorted(dice.choices(range(len(shuffled) + 1), k=2))
    a, b, c = (
        ev.fold(ev.EMPTY, part) for part in (shuffled[: cuts[0]], shuffled[cuts[0] : cuts[1]], shuffled[cuts[1] :])
    )
    assert ev.encode(ev.merge(a, ev.merge(b, c))) == ev.encode(ev.merge(ev.merge(c, a), b)) == ev.encode(whole)
    assert ev.merge(whole, whole) == whole
    assert ev.encode(ev.decode(ev.encode(whole))) == ev.encode(whole)
    summarise(whole)
    item(0, "t", whole)


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=20), st.randoms(use_true_random=False))
def test_counts_do_not_depend_on_order_or_batches(events: list[Event], dice: random.Random) -> None:
    """Two clusters fed the same events in different orders and batches count the same."""

    def fed(order: list[Event]) -> Cluster:
        cluster = Cluster(MemoryStore())
        while order:
            size = dice.randrange(1, 6)
            cluster.apply(order[:size], T0)
            order = order[size:]
        return cluster

    shuffled = [*events, *events[::2]]
    dice.shuffle(shuffled)
    one, other = fed(list(events)), fed(shuffled)
    assert one.cells == other.cells
    assert one.anomalies.counts == other.anomalies.counts
