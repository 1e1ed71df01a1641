"""Taking, settling, losing and bringing back, against a real Redis and a manual clock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import kombu
import msgspec
import pytest
import redis as redis_py

from opsq.broker.faults import LeaseLost
from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.redis import scripts
from opsq.broker.redis.keys import Keys
from opsq.broker.redis.lease import Owner
from opsq.broker.redis.reaper import SWEEP_S
from opsq.broker.redis.source import RedisSource, SourceOptions
from opsq.broker.redis.transport import Transport
from opsq.broker.sqlite.process import ProcessId, this_process
from opsq.broker.topology import queue_named
from opsq.clock import ManualClock
from opsq.testing.broker_reader import message
from tests.servers import RedisServer, redis_server

SPEC = queue_named("work")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def transport(server: RedisServer, client: redis_py.Redis) -> Iterator[Any]:
    connection: Any = kombu.Connection(server.url, transport=Transport)
    connection.connect()
    yield connection.transport
    connection.release()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def consume(transport: Any, clock: ManualClock) -> Iterator[Callable[..., RedisSource]]:
    made: list[RedisSource] = []

    def start(*, no_ack: bool = False, **options: float) -> RedisSource:
        channel = transport.create_channel(transport)
        source = RedisSource(
            channel,
            lambda: transport.new_wire(channel),
            [SPEC],
            no_ack=no_ack,
            keys=Keys(),
            options=SourceOptions(**options),
            clock=clock,
        )
        made.append(source)
        return source

    yield start
    for source in made:
        source.close()


@pytest.fixture
def publish(transport: Any) -> Callable[..., None]:
    channel = transport.create_channel(transport)

    def send(*bodies: bytes) -> None:
        channel.publish_messages([message(SPEC, body) for body in bodies])

    return send


def cut(source: RedisSource) -> None:
    """Take its connection away, as if the process were gone."""
    source._wire.close()


def bodies(batch: Sequence[Delivery]) -> list[bytes]:
    return [each.body for each in batch]


def claim(client: redis_py.Redis, source: RedisSource, process: ProcessId) -> None:
    """Write down that a consumer belongs to another process."""
    lease = source._lease
    assert lease is not None
    record = msgspec.json.decode(client.hget("opsq:owners", lease.consumer) or b"", type=Owner)
    other = Owner(process, record.client, record.name)
    client.hset("opsq:owners", lease.consumer, msgspec.json.encode(other))


ELSEWHERE = ProcessId("another boot", "1", 1, "1")


# ---- taking and settling


def test_one_round_trip_settles_and_takes(consume: Any, publish: Any, client: redis_py.Redis) -> None:
    publish(*(b"%d" % number for number in range(600)))
    source = consume()
    first = source.exchange([], 256)
    before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    second = source.exchange([Settlement(each.tag) for each in first], 256)
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1
    assert (len(first), len(second), client.hlen("unacked")) == (256, 256, 256)
    assert bodies(first + second) == [b"%d" % number for number in range(512)]


def test_without_news_nobody_is_asked(consume: Any, publish: Any, client: redis_py.Redis) -> None:
    source = consume()
    assert source.exchange([], 10) == []
    before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert [source.exchange([], 10) for _ in range(5)] == [[]] * 5
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == before
    publish(b"1")
    source._wire.call("PING")  # the news has come before this answer
    source.woken()
    source._hear()
    assert bodies(source.exchange([], 10)) == [b"1"]


def test_a_message_that_is_nobodys_cannot_be_settled(consume: Any, publish: Any, client: redis_py.Redis) -> None:
    publish(b"1")
    one, two = consume(), consume()
    (held,) = one.exchange([], 1)
    two.exchange([Settlement(held.tag)], 0)
    assert client.hlen("unacked") == 1
    assert two._lease is not None
    assert two._lease.refused == 1
    one.exchange([Settlement(held.tag)], 0)
    assert client.hlen("unacked") == 0


def test_very_many_are_settled_at_once(consume: Any, publish: Any, client: redis_py.Redis) -> None:
    publish(*[b"x"] * 2_500)
    source = consume()
    held = [each for _ in range(10) for each in source.exchange([], 250)]
    source.exchange([Settlement(each.tag) for each in held], 0)
    assert (len(held), client.dbsize(), client.hlen("unacked")) == (2_500, client.dbsize(), 0)


def test_a_batch_of_huge_messages_is_cut(consume: Any, publish: Any) -> None:
    big = b"x" * 1_500_000
    publish(*[big] * 6)
    source = consume()
    first = source.exchange([], 100)
    assert 1 <= len(first) * len(big) < scripts.BATCH_BYTES * 2
    assert len(first) + len(source.exchange([], 100)) + len(source.exchange([], 100)) == 6


def test_the_server_may_forget_the_scripts(consume: Any, publish: Any, client: redis_py.Redis) -> None:
    source = consume()
    client.script_flush()
    publish(b"1")
    assert bodies(source.exchange([], 1)) == [b"1"]


STRANGE = [
    b"no json at all",
    b'{"truncated": ',
    b'\xff\x00\x01 bytes "quoted" \\ and more',
    b'{"properties": {"no tag": 1}}',
    b'{"properties": {"delivery_tag": "strange-1"}}',
    b'{"a": "delivery_tag", "headers": {"delivery_tag": "no"}, "properties": {"delivery_tag": "strange-2"}}',
    b"",
]


@pytest.mark.parametrize("text", STRANGE)
def test_strange_texts_are_handed_out_registered_and_settled(
    consume: Any, publish: Any, client: redis_py.Redis, text: bytes
) -> None:
    publish(b"before")
    client.lpush(SPEC.name, text)
    publish(b"after")
    source = consume()
    batch = source.exchange([], 10)
    assert bodies(batch)[0] == b"before"
    assert bodies(batch)[2] == b"after"
    odd = batch[1]
    assert (odd.body, odd.headers) == (text, {})
    assert client.hexists("unacked", odd.tag)
    source.exchange([Settlement(each.tag) for each in batch], 0)
    assert not client.exists("unacked", "unacked_index")


def test_a_strange_text_that_is_given_back_comes_again(consume: Any, client: redis_py.Redis) -> None:
    client.lpush(SPEC.name, b"\xff strange")
    source = consume()
    (odd,) = source.exchange([], 1)
    source.exchange([Settlement(odd.tag, Settle.REQUEUE)], 0)
    (again,) = source.exchange([], 1)
    assert (again.body, again.deliveries, again.tag) == (b"\xff strange", 2, odd.tag)


def test_order_and_count_survive_being_given_back(consume: Any, publish: Any) -> None:
    publish(b"1", b"2", b"3", b"4")
    source = consume()
    held = source.exchange([], 3)
    source.close()
    second = consume()
    again = second.exchange([], 10)
    assert bodies(again) == [b"1", b"2", b"3", b"4"]
    assert [each.deliveries for each in again] == [2, 2, 2, 1]
    assert [each.tag for each in again[:3]] == [each.tag for each in held]


def test_nothing_stays_behind(consume: Any, publish: Any, client: redis_py.Redis) -> None:
    publish(b"1")
    source = consume()
    source.exchange([Settlement(source.exchange([], 1)[0].tag)], 1)
    source.close()
    assert not [key for key in client.keys("*") if b"_kombu" not in key]


def test_no_ack_registers_nothing(consume: Any, publish: Any, client: redis_py.Redis) -> None:
    publish(b"1", b"2")
    source = consume(no_ack=True)
    assert bodies(source.exchange([], 10)) == [b"1", b"2"]
    assert not client.exists("unacked", "opsq:owners")


# ---- the dead


def test_a_process_that_is_gone_from_this_host_is_buried_at_once(
    consume: Any, publish: Any, client: redis_py.Redis
) -> None:
    publish(b"1", b"2")
    victim, heir = consume(), consume()
    assert len(victim.exchange([], 2)) == 2
    here = this_process()
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    claim(client, victim, ProcessId(here.boot, here.namespace, child.pid, "1"))
    heir.keepalive()
    assert bodies(heir.exchange([], 10)) == [b"1", b"2"]
    with pytest.raises(LeaseLost, match="silent for longer than its lease"):
        victim.exchange([], 1)
    with pytest.raises(LeaseLost):
        victim._lease.renew()


def test_a_living_process_keeps_what_it_holds(
    consume: Any, publish: Any, client: redis_py.Redis, clock: ManualClock
) -> None:
    publish(b"1")
    holder, other = consume(), consume()
    (held,) = holder.exchange([], 1)
    for process in (this_process(), ELSEWHERE):
        claim(client, holder, process)
        for _ in range(20):
            clock.advance(1.0)
            other.keepalive()
    assert other.exchange([], 1) == []
    holder.exchange([Settlement(held.tag)], 0)
    assert not client.exists("unacked")


def test_a_connection_that_is_not_listed_is_given_five_seconds(
    consume: Any, publish: Any, client: redis_py.Redis, clock: ManualClock
) -> None:
    publish(b"1")
    victim, heir = consume(), consume()
    victim.exchange([], 1)
    claim(client, victim, ELSEWHERE)
    cut(victim)
    heir.keepalive()
    clock.advance(4.9)
    heir.keepalive()
    assert heir.exchange([], 1) == []
    clock.advance(0.2)
    heir.keepalive()
    assert bodies(heir.exchange([], 1)) == [b"1"]


def test_our_own_lost_connection_is_followed_up_at_once(consume: Any, publish: Any) -> None:
    publish(b"1")
    lost = consume()
    lost.exchange([], 1)
    cut(lost)
    (again,) = consume().exchange([], 1)
    assert (again.body, again.redelivered) == (b"1", True)


def test_the_number_of_a_lost_connection_may_be_used_again(
    consume: Any, publish: Any, client: redis_py.Redis, clock: ManualClock
) -> None:
    publish(b"1")
    victim, heir = consume(), consume()
    victim.exchange([], 1)
    lease = victim._lease
    record = msgspec.json.decode(client.hget("opsq:owners", lease.consumer) or b"", type=Owner)
    taken = Owner(ELSEWHERE, client.client_id(), record.name)
    client.hset("opsq:owners", lease.consumer, msgspec.json.encode(taken))
    heir.keepalive()
    clock.advance(5.1)
    heir.keepalive()
    assert bodies(heir.exchange([], 1)) == [b"1"]


def test_a_lease_that_has_ended_is_the_last_resort(
    consume: Any, publish: Any, client: redis_py.Redis, clock: ManualClock
) -> None:
    publish(b"1")
    silent, heir = consume(), consume()
    silent.exchange([], 1)
    claim(client, silent, ELSEWHERE)
    now = client.time()[0]
    client.zadd("opsq:alive_until", {silent._lease.consumer: now - 1})
    heir.keepalive()
    assert bodies(heir.exchange([], 1)) == [b"1"]


def test_a_record_that_cannot_be_read_is_judged_by_its_lease(consume: Any, client: redis_py.Redis) -> None:
    source = consume()
    client.hset("opsq:owners", "strange", b"of a later version")
    client.zadd("opsq:alive_until", {"strange": client.time()[0] + 60})
    source.keepalive()
    assert client.hexists("opsq:owners", "strange")
    client.zadd("opsq:alive_until", {"strange": client.time()[0] - 1})
    source.keepalive()
    assert not client.hexists("opsq:owners", "strange")


def test_many_heirs_bring_each_message_back_once(consume: Any, publish: Any, client: redis_py.Redis) -> None:
    publish(*(b"%d" % number for number in range(300)))
    victim = consume()
    held = [*victim.exchange([], 256), *victim.exchange([], 44)]
    heirs = [consume() for _ in range(3)]
    claim(client, victim, ProcessId(this_process().boot, this_process().namespace, os.getpid(), "another start"))
    threads = [threading.Thread(target=heir.keepalive) for heir in heirs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = [each for heir in heirs for _ in range(3) for each in heir.exchange([], 256)]
    assert sorted(each.tag for each in got) == sorted(each.tag for each in held)


def test_a_flushed_server_ends_the_lease(consume: Any, client: redis_py.Redis) -> None:
    source = consume()
    client.flushall()
    with pytest.raises(LeaseLost):
        source.exchange([], 1)


def test_entries_that_nobody_can_read_hold_up_no_others(
    consume: Any, client: redis_py.Redis, clock: ManualClock
) -> None:
    unreadable = {f"strange-{number}": b"of a later version" for number in range(250)}
    stale = {"properties": {"delivery_tag": "stale", "delivery_info": {}}, "headers": {}, "body": "1"}
    client.hset("unacked", mapping={**unreadable, "stale": msgspec.json.encode((stale, "", SPEC.name))})
    client.zadd("unacked_index", {**dict.fromkeys(unreadable, 1), "stale": 2})  # the oldest are looked at first
    source = consume()
    for _ in range(3):
        source.keepalive()
        clock.advance(SWEEP_S)
    assert bodies(source.exchange([], 1)) == [b"1"]
    assert client.hlen("unacked") == 251  # they stay, for whoever can read them
