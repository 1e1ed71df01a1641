"""Choosing a broker, failing over, and what is said when nothing answers."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsq.broker.connection import BrokerConnection, open_connection
from opsq.broker.depth import depth
from opsq.broker.faults import BrokerUnusable
from opsq.broker.registry import BROKERS, find_broker
from opsq.errors import BrokerUnavailable, ConfigError, ExitCode
from opsq.settings import Settings
from tests.promises import within
from tests.servers import free_port


@pytest.fixture
def closed_port() -> int:
    return free_port()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlit:///tmp/x", r"no broker is called 'sqlit'; did you mean sqlite://\?"),
        ("rediss2://h", r"did you mean rediss://\?"),
        ("zzzzzz://h", "known are SLMQ, SQS, "),
        ("localhost:6379", r"expected scheme://….* got one without a scheme"),
        ("", "expected at least one, got none"),
    ],
)
def test_urls_that_cannot_be_used(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        BrokerConnection(url)


def test_every_kombu_scheme_is_known() -> None:
    assert find_broker("redis://").name == "redis"
    assert find_broker("sqla+postgresql://u@h/d").name == "sqla"
    assert find_broker("sqlite:///x") is BROKERS["sqlite"]


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers of opsq's own table: ``test_broker_notices.py``."""
    monkeypatch.setitem(sys.modules, "consul", None)  # as Python sees a library that is not installed
    with pytest.raises(
        ConfigError, match=r"the consul broker needs a library .*pip install \"kombu\[consul\]\""
    ) as caught:
        BrokerConnection("consul://localhost").connect()
    assert caught.value.exit_code is ExitCode.CONFIG


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_nobody_listens(scheme: str, closed_port: int) -> None:
    connection = BrokerConnection(f"{scheme}://anna:s3cret@127.0.0.1:{closed_port}//")
    with pytest.raises(BrokerUnavailable, match=r"anna:\*+@127\.0\.0\.1.*refused.*check that it runs") as caught:
        connection.connect()
    assert "s3cret" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.UNAVAILABLE
    assert not connection.connected


def test_a_silent_server_does_not_hold_us(silent_port: int) -> None:
    connection = BrokerConnection(f"amqp://guest:guest@127.0.0.1:{silent_port}//", connect_timeout_s=0.2)
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        connection.connect()
    assert time.monotonic() - started < within(3)


def test_a_deadline_goes_on_trying(closed_port: int) -> None:
    connection = BrokerConnection(f"redis://127.0.0.1:{closed_port}/0")
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        connection.connect(deadline_s=0.5)
    assert 0.1 < time.monotonic() - started < within(3)


@pytest.mark.parametrize("failover", ["round-robin", "shuffle", None, iter])
def test_the_next_url_is_tried(closed_port: int, tmp_path: Path, failover: str) -> None:
    good = f"sqlite:///{tmp_path}/broker.db"
    urls = f"redis://:pw@127.0.0.1:{closed_port}/0;{good}"
    connection = BrokerConnection(urls, failover=failover)
    connection.connect()
    assert connection.url == good
    assert (connection.driver, connection.polling, connection.supports_fanout) == ("sqlite", False, True)
    connection.close()
    connection.close()
    assert not connection.connected


def test_an_unknown_failover_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected round-robin, shuffle or a callable, got 'random'"):
        BrokerConnection("memory://", failover="random")


def test_a_broker_that_cannot_work_says_so(tmp_path: Path) -> None:
    (tmp_path / "broker.db").write_bytes(b"not a database at all" * 100)
    connection = BrokerConnection(f"sqlite:///{tmp_path}/broker.db")
    with pytest.raises(BrokerUnusable, match="not a SQLite database") as caught:
        connection.connect()
    assert caught.value.exit_code is ExitCode.CANNOT_CREATE


def test_not_connected_is_said() -> None:
    with pytest.raises(BrokerUnavailable, match=r"not connected to the broker at memory://.*connect\(\)"):
        depth(BrokerConnection("memory://"), ["q"])


def test_settings_make_a_connection(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path), lease_seconds=3.0, broker_sqlite_synchronous="FULL")
    connection = open_connection(settings, purpose="read")
    connection.connect()
    broker = connection.kombu.connection.broker
    assert (broker.path, broker.lease_s) == (str(tmp_path / "broker.db"), 3.0)
    assert broker.database.options.synchronous == "FULL"
    connection.close()
    two = open_connection(Settings(broker_read_url="memory://", broker_write_url="redis://h"), purpose="write")
    assert two.urls == ["redis://h"]
