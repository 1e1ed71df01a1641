"""Leases: who holds what, and when it comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.broker.faults import BrokerUnusable, LeaseLost
from opsq.broker.message import OutMessage
from opsq.broker.sqlite.broker import SqliteBroker
from opsq.broker.sqlite.lease import Lease
from opsq.broker.sqlite.process import ProcessId, is_gone, start_time, this_process
from opsq.broker.sqlite.reaper import Reaped
from opsq.broker.sqlite.routes import Route, matching
from opsq.broker.topology import ExchangeSpec, QueueSpec, event_exchange, event_queue, queue_named
from opsq.clock import ManualClock

Q = queue_named("q")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def open_broker(tmp_path: Path, clock: ManualClock) -> Iterator[Callable[[], SqliteBroker]]:
    made: list[SqliteBroker] = []

    def make() -> SqliteBroker:
        made.append(SqliteBroker(str(tmp_path / "broker.db"), {"lease_seconds": 30}, clock))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def broker(open_broker: Callable[[], SqliteBroker]) -> SqliteBroker:
    return open_broker()


def note(body: str = "x", spec: QueueSpec = Q, **fields: object) -> OutMessage:
    given_ = {"headers": {}, "declare": spec, "routing_key": spec.name, **fields}
    return OutMessage(body=body.encode(), content_type="", content_encoding="", **given_)  # type: ignore[arg-type]


def lease(broker: SqliteBroker, *names: str) -> Lease:
    made = broker.lease()
    made.subscribe(names or ["q"])
    return made


def bodies(lease: Lease, room: int = 100) -> list[str]:
    return [each.body.decode() for each in lease.take([], room)]


def test_two_consumers_share_a_queue_without_overlap(broker: SqliteBroker) -> None:
    broker.store.put([note(str(number)) for number in range(10)])
    first, second = lease(broker), lease(broker)
    assert bodies(first, 4) == ["0", "1", "2", "3"]
    assert bodies(second, 4) == ["4", "5", "6", "7"]
    assert bodies(first) == ["8", "9"]


def test_only_the_holder_can_settle(broker: SqliteBroker) -> None:
    broker.store.put([note()])
    holder, other = lease(broker), lease(broker)
    (got,) = holder.take([], 1)
    other.take([got.tag], 0)
    other.settle([got.tag])
    other.give_back([got.tag])
    waiting = broker.store.waiting("q")
    assert waiting is not None
    assert (waiting.ready, waiting.unacked) == (0, 1)


def test_a_silent_consumer_loses_everything_after_its_lease(
    open_broker: Callable[[], SqliteBroker], clock: ManualClock
) -> None:
    silent_broker, broker = open_broker(), open_broker()
    broker.store.put([note("1"), note("2")])
    silent = lease(silent_broker)
    held = silent.take([], 10)
    clock.advance(29)
    assert broker.reaper.run() == Reaped()
    silent.renew()
    clock.advance(29)
    assert broker.reaper.run() == Reaped()
    clock.advance(2)
    assert broker.reaper.run().consumers == 1
    again = lease(broker).take([], 10)
    assert [(each.body, each.redelivered, each.deliveries) for each in again] == [(b"1", True, 2), (b"2", True, 2)]
    with pytest.raises(LeaseLost, match="lease_seconds"):
        silent.take([each.tag for each in held], 1)
    with pytest.raises(LeaseLost):
        silent.renew()
    with pytest.raises(LeaseLost):
        silent.subscribe(["q"])
    silent.close()


def test_the_dead_are_told_from_the_living() -> None:
    me = this_process()
    assert not is_gone(me, me)
    assert is_gone(ProcessId("another boot", me.namespace, me.pid, me.started), me)
    assert is_gone(ProcessId(me.boot, me.namespace, me.pid, "1"), me), "the pid was used again"
    assert is_gone(ProcessId(me.boot, me.namespace, 2**22 + 1, me.started), me)
    assert not is_gone(ProcessId(me.boot, "another container", 1, "0"), me), "cannot be known: the lease decides"
    assert start_time(2**22 + 1) is None


def test_what_is_given_back_keeps_its_place(broker: SqliteBroker) -> None:
    broker.store.put([note(str(number)) for number in range(4)])
    first = lease(broker)
    held = first.take([], 3)
    first.give_back([held[2].tag, held[0].tag])
    assert bodies(first) == ["0", "2", "3"]


def test_priorities_are_clamped(broker: SqliteBroker) -> None:
    for priority in (None, -5, 3, 99, "high"):
        broker.store.put([note(str(priority), properties={"priority": priority})])
    assert bodies(lease(broker)) == ["99", "3", "None", "-5", "high"]


def test_a_batch_stops_before_it_is_too_big(broker: SqliteBroker) -> None:
    broker.store.put([note("x" * 10_000_000) for _ in range(5)])
    reader = lease(broker)
    assert [len(each.body) for each in reader.take([], 256)] == [10_000_000] * 3
    assert len(reader.take([], 256)) == 2


def test_expired_messages_are_dropped_unless_somebody_has_them(broker: SqliteBroker, clock: ManualClock) -> None:
    spec = QueueSpec(name="short", message_ttl_s=5)
    broker.store.put([note("held", spec), note("waits", spec), note("waits too", spec)])
    reader = lease(broker, "short")
    (held,) = reader.take([], 1)
    clock.advance(6)
    assert bodies(reader, 1) == [], "too old to be handed out"
    assert broker.reaper.run().messages == 1
    reader.give_back([held.tag])
    reader.take([], 0)
    assert broker.database.execute("SELECT count(*) FROM message").fetchone()[0] == 1
    broker.reaper.run()
    assert broker.database.execute("SELECT count(*) FROM message").fetchone()[0] == 0


def test_queues_of_dead_monitors_go(broker: SqliteBroker, clock: ManualClock) -> None:
    spec = event_queue("1", exchange=event_exchange())
    broker.catalog.declare(spec)
    monitor = lease(broker, spec.name)
    event = note("event", exchange="celeryev", routing_key="task.multi", declare=None)
    assert broker.store.put([event] * 3) == 0
    clock.advance(31)
    assert broker.reaper.run().consumers == 1
    broker.reaper.run()
    assert broker.store.waiting(spec.name) is None
    assert broker.store.put([event]) == 1
    assert broker.database.execute("SELECT count(*) FROM message").fetchone()[0] == 0
    monitor.close()


def test_unused_queues_expire(broker: SqliteBroker, clock: ManualClock) -> None:
    spec = QueueSpec(name="reply", expires_s=10)
    broker.store.put([note("r", spec)])
    reader = lease(broker, "reply")
    clock.advance(20)
    reader.renew()
    assert broker.reaper.run().queues == 0, "it is read"
    reader.close()
    clock.advance(9)
    broker.catalog.declare(spec)
    clock.advance(9)
    assert broker.reaper.run().queues == 0, "it was declared again"
    clock.advance(2)
    assert broker.reaper.run().queues == 1


def test_long_queues_are_trimmed(broker: SqliteBroker) -> None:
    spec = QueueSpec(name="bounded", max_length=3)
    broker.store.put([note(str(number), spec) for number in range(10)])
    assert broker.reaper.run().trimmed == 7
    assert bodies(lease(broker, "bounded")) == ["7", "8", "9"]


def test_a_queue_that_is_deleted_takes_everything_along(broker: SqliteBroker) -> None:
    broker.store.put([note("1"), note("2")])
    reader = lease(broker)
    (got,) = reader.take([], 1)
    broker.catalog.delete_queue("q")
    assert not reader.is_current()
    assert bodies(reader) == []
    reader.take([got.tag], 1)
    assert broker.database.execute(
        "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM binding)"
    ).fetchone() == (
        0,
        0,
    )


def test_purging_leaves_what_is_handed_out(broker: SqliteBroker) -> None:
    broker.store.put([note("1"), note("2"), note("3")])
    reader = lease(broker)
    (got,) = reader.take([], 1)
    assert broker.store.purge("q") == 2
    assert broker.store.purge("missing") == 0
    reader.take([got.tag], 0)
    assert broker.database.execute("SELECT count(*) FROM message").fetchone()[0] == 0


def test_the_oldest_message_has_an_age(broker: SqliteBroker, clock: ManualClock) -> None:
    broker.store.put([note("old")])
    clock.advance(5)
    broker.store.put([note("urgent", properties={"priority": 9})])
    waiting = broker.store.waiting("q")
    assert waiting is not None
    assert waiting.oldest_at == clock.now() - 5


def test_an_exchange_keeps_its_type(broker: SqliteBroker) -> None:
    broker.catalog.declare_exchange(ExchangeSpec(name="e", type="topic"))
    broker.catalog.declare_exchange(ExchangeSpec(name="e", type="topic"))
    with pytest.raises(BrokerUnusable, match="exists with type topic, it cannot be declared as direct"):
        broker.catalog.declare_exchange(ExchangeSpec(name="e"))
    with pytest.raises(BrokerUnusable, match="no exchanges of type 'headers'"):
        broker.catalog.declare_exchange(ExchangeSpec(name="h", type="headers"))
    with pytest.raises(BrokerUnusable, match="there is no exchange 'x'"):
        broker.catalog.bind("q", "x", "k")
    with pytest.raises(BrokerUnusable, match="it does not exist"):
        broker.catalog.bind("missing", "e", "k")


def test_another_process_sees_a_new_binding_at_once(open_broker: Callable[[], SqliteBroker]) -> None:
    one, two = open_broker(), open_broker()
    event = note("e", exchange="celeryev", routing_key="task.multi", declare=None)
    one.catalog.declare_exchange(event_exchange())
    assert two.store.put([event]) == 1
    one.catalog.declare(event_queue("1"))
    assert two.store.put([event]) == 0
    one.catalog.unbind("celeryev.1", "celeryev", "#")
    assert two.store.put([event]) == 1


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("#", ["", "a", "a.b"], []),
        ("a.#", ["a", "a.b", "a.b.c"], ["b", "ab", "b.a"]),
        ("#.a", ["a", "b.a", "c.b.a"], ["a.b", "ba"]),
        ("a.#.b", ["a.b", "a.x.b", "a.x.y.b"], ["a", "b", "ab"]),
        ("*.multi", ["task.multi"], ["multi", "a.task.multi"]),
        ("a.*", ["a.b"], ["a", "a.b.c"]),
        ("#.#.a", ["a", "x.a"], ["x"]),
        ("a+b", ["a+b"], ["aab"]),
    ],
)
def test_topics(pattern: str, yes: list[str], no: list[str]) -> None:
    routes = [Route(pattern, "q"), Route(pattern, "q")]
    assert [key for key in yes + no if matching("topic", routes, key)] == yes
    assert matching("topic", routes, yes[0]) == ("q",)


@given(
    st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5), st.lists(st.sampled_from("ab"), max_size=5)
)
def test_topics_agree_with_a_plain_definition(pattern: list[str], words: list[str]) -> None:
    def matches(left: list[str], right: list[str]) -> bool:
        if not left:
            return not right
        if left[0] == "#":
            return any(matches(left[1:], right[skip:]) for skip in range(len(right) + 1))
        return bool(right) and left[0] in ("*", right[0]) and matches(left[1:], right[1:])

    if not words:
        return
    found = matching("topic", [Route(".".join(pattern), "q")], ".".join(words))
    assert bool(found) == matches(pattern, words)
