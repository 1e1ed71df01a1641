"""Publishing when things go wrong."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsq.broker.connection import BrokerConnection
from opsq.broker.depth import depth
from opsq.broker.publisher import Publisher
from opsq.broker.retry import NO_RETRY, RetryPolicy
from opsq.broker.topology import queue_named
from opsq.errors import BrokerUnavailable, UsageError
from opsq.testing.broker_reader import message
from opsq.testing.contract_backend import eventually

Q = queue_named("q")
QUICK = RetryPolicy(max_retries=3, interval_step=0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.db"


@pytest.fixture
def holder(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the file."""
    first = BrokerConnection(f"sqlite:///{path}")
    first.connect()  # makes the tables
    first.close()
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


def make(path: Path, **options: object) -> Publisher:
    urls = f"sqlite:///{path}"
    return Publisher(lambda: BrokerConnection(urls, transport_options={"busy_timeout_s": 0.05}), **options)  # type: ignore[arg-type]


def count(path: Path) -> int:
    connection = BrokerConnection(f"sqlite:///{path}")
    connection.connect()
    found = depth(connection, ["q"])["q"].ready
    connection.close()
    return found


def test_a_locked_file_is_tried_again(path: Path, holder: sqlite3.Connection) -> None:
    publisher = make(path, retry=RetryPolicy(max_retries=None, interval_step=0.02))
    publisher.publish(message(Q))
    holder.execute("BEGIN IMMEDIATE")

    def free() -> None:
        assert eventually(lambda: publisher.stats.retries >= 1, 30)
        holder.execute("COMMIT")

    thread = threading.Thread(target=free)
    thread.start()
    publisher.publish(message(Q))
    thread.join()
    assert publisher.stats.retries >= 1
    assert publisher.stats.published == count(path) == 2
    publisher.close()


def test_retries_end(path: Path, holder: sqlite3.Connection) -> None:
    publisher = make(path, retry=QUICK)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(BrokerUnavailable, match="stayed locked"):
        publisher.publish(message(Q))
    assert (publisher.stats.retries, publisher.stats.failed, publisher.stats.published) == (3, 1, 0)
    with pytest.raises(BrokerUnavailable):
        publisher.publish(message(Q), retry=NO_RETRY)
    assert publisher.stats.retries == 3
    holder.execute("ROLLBACK")
    publisher.publish(message(Q))
    publisher.close()


def test_a_deadline_ends_retries(path: Path, holder: sqlite3.Connection) -> None:
    publisher = make(path, retry=RetryPolicy(max_retries=None, interval_step=0.05), deadline_s=0.3)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(BrokerUnavailable):
        publisher.publish(message(Q))
    holder.execute("ROLLBACK")
    publisher.close()


def test_a_broker_that_cannot_work_is_not_tried_again(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    publisher = make(path, retry=QUICK)
    with pytest.raises(BrokerUnavailable, match="not a SQLite database"):
        publisher.publish(message(Q))
    assert publisher.stats.retries == 0


def test_a_thread_does_not_wait_longer_than_its_own_deadline(path: Path, holder: sqlite3.Connection) -> None:
    publisher = make(path, retry=RetryPolicy(max_retries=None, interval_step=0.05), deadline_s=60)
    holder.execute("BEGIN IMMEDIATE")
    errors: list[BaseException] = []

    def patient() -> None:
        try:
            publisher.publish(message(Q))
        except BrokerUnavailable as exc:
            errors.append(exc)

    thread = threading.Thread(target=patient)
    thread.start()
    while not publisher.stats.retries:
        thread.join(0.01)
    with pytest.raises(BrokerUnavailable, match="another thread was still publishing"):
        publisher.publish(message(Q), deadline_s=0.1)
    holder.execute("ROLLBACK")
    thread.join()
    assert errors == []
    publisher.close()


def test_too_big_a_body_names_the_limit(path: Path) -> None:
    publisher = make(path, max_bytes=1000)
    with pytest.raises(UsageError, match=r"its body has 1,001 bytes, more than message_max_bytes = 1,000"):
        publisher.publish(message(Q, b"x" * 1001))
    publisher.close()


def test_a_message_that_cannot_be_written_does_not_break_the_publisher(path: Path) -> None:
    publisher = make(path)
    with pytest.raises(UsageError, match="must be JSON"):
        publisher.publish(message(Q, headers={"x": object()}))
    with pytest.raises(UsageError, match="must be JSON"):
        publisher.publish_many([message(Q), message(Q, headers={"x": object()})])
    publisher.publish(message(Q))
    assert count(path) == 1
    publisher.close()


def test_a_deleted_queue_is_declared_again(path: Path) -> None:
    publisher = make(path)
    publisher.publish(message(Q))
    connection = BrokerConnection(f"sqlite:///{path}")
    connection.connect()
    connection.kombu.channel().queue_delete("q")
    publisher.publish(message(Q))
    publisher.publish(message("nowhere"))
    assert depth(connection, ["q"])["q"].ready == 1
    assert publisher.stats.unrouted == 1
    connection.close()
    publisher.close()
