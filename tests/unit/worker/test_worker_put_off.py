"""What has to wait for long is left to the broker, and kept here when that cannot be done."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opsq.broker.connection import BrokerConnection
from opsq.broker.publisher import Publisher
from opsq.broker.retry import NO_RETRY
from opsq.broker.topology import QueueSpec, queue_named
from opsq.core.pools.base import Job
from opsq.core.worker.ledger import Entry, Ledger, RevokedIds
from opsq.core.worker.policy import Policy
from opsq.core.worker.put_off import PutOff, delayed_again, put_off
from opsq.settings import Settings
from opsq.wire.task import TaskHeaders
from tests.servers import free_port

POLICY = Policy(
    task="t", acks_late=True, acks_on_failure=True, acks_on_timeout=True, reject_on_worker_lost=True,
    soft_limit_s=None, hard_limit_s=None, rate_per_s=0.0, send_events=True, ignore_result=False,
)  # fmt: skip
SPEC = queue_named("q", max_priority=5)


def entry(ledger: Ledger, task_id: str = "id", queue: str = "q") -> Entry:
    key = ledger.next_key()
    headers = {"id": task_id, "task": "t", "eta": "2100-01-01T00:00:00+00:00", "x-death": [{}]}
    info = {"exchange": "shop", "routing_key": "shop.orders"}
    job = Job(key, task_id, "t", headers, b"[]", "application/json", "utf-8", {"priority": 3}, info)
    made = Entry(key, job, TaskHeaders(id=task_id, task="t"), POLICY, "tag", ledger.generation, True, queue, 0.0)
    ledger.add(made)
    return made


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(RevokedIds(3, 60.0))


class Desk:
    """Work that is left for later, and the entries that were confirmed."""

    def __init__(self, ledger: Ledger, publisher: Publisher) -> None:
        self.work: list[Callable[[], None]] = []
        self.confirmed: list[Entry] = []
        self.put_off = PutOff(600.0, ledger, self.work.append, lambda: publisher, lambda: (SPEC,))

    def do(self, *entries: Entry) -> None:
        """Leave them to the broker, now."""
        self.put_off(entries, self.confirmed.extend)
        self.work.pop()()


@pytest.fixture
def away() -> Publisher:
    """A publisher whose broker is not there."""
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}//"
    return Publisher(lambda: BrokerConnection(url), NO_RETRY, deadline_s=5.0)


def test_it_is_kept_when_the_broker_does_not_take_it(ledger: Ledger, away: Publisher) -> None:
    desk, kept = Desk(ledger, away), entry(ledger)
    desk.do(kept)
    assert desk.confirmed == []
    assert ledger.get(kept.key) is kept
    assert ledger.counters == {"not_put_off": 1}


def test_what_is_gone_meanwhile_is_not_sent(ledger: Ledger, away: Publisher) -> None:
    desk = Desk(ledger, away)
    revoked, lost, strange = entry(ledger, "revoked"), entry(ledger, "lost"), entry(ledger, "strange", "unknown")
    ledger.remove(revoked.key)
    lost.generation = ledger.generation - 1  # its connection is lost, and the broker delivers it again
    desk.do(revoked, lost, strange)
    assert ledger.counters == {}, "nothing was tried"


def test_the_message_is_the_same_for_its_own_queue_alone(ledger: Ledger) -> None:
    made = entry(ledger)
    message = delayed_again(made, SPEC)
    assert (message.exchange, message.routing_key, message.declare) == ("", "q", SPEC)
    assert (message.body, message.properties) == (b"[]", {"priority": 3})
    assert set(message.headers) == {"id", "task", "eta"}


@pytest.mark.parametrize(
    ("settings", "can"),
    [
        (Settings(broker_url="amqp://h//"), True),
        (Settings(broker_url=("pyamqp://a//", "amqp://b//")), True),
        (Settings(broker_url="amqps://h//"), True),
        (Settings(broker_url="amqp://a//", broker_write_url="amqp://b//"), False),
        (Settings(broker_url="redis://h"), False),
        (Settings(), False),
    ],
)
def test_only_where_the_broker_read_and_written_can_wait(settings: Settings, can: bool, ledger: Ledger) -> None:
    queues: tuple[QueueSpec, ...] = (SPEC,)
    made = put_off(
        settings, ledger, lambda work: None, lambda: Publisher(lambda: BrokerConnection("amqp://h//")), lambda: queues
    )
    assert (made is not None) is can
