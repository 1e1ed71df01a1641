"""What a worker says about its broker when it starts, and what a missing library is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from opsq.broker.connection import BrokerConnection
from opsq.broker.notices import notices
from tests.servers import RedisServer, free_port, redis_server
from tests.servers_cloud import SQS_OPTIONS, sqs_server

LIBRARIES = {"redis": "redis", "sqla+postgresql": "sqlalchemy", "sqs": "boto3", "mongodb": "pymongo"}
EXTRAS = {"redis": "redis", "sqla+postgresql": "sqlalchemy", "sqs": "sqs", "mongodb": "mongodb"}


def said(url: str, **options: object) -> list[str]:
    connection = BrokerConnection(url, transport_options=options)
    connection.connect()
    try:
        return notices(connection)
    finally:
        connection.close()


def test_a_broker_that_can_do_everything_gets_no_word(tmp_path: Path) -> None:
    assert said(f"sqlite:///{tmp_path}/broker.db") == []


def test_memory_says_that_it_is_one_process() -> None:
    (notice,) = said("memory://")
    assert "one process" in notice


def test_a_transport_of_kombus_alone_is_called_untested(tmp_path: Path) -> None:
    (notice,) = said("filesystem://", data_folder_in=str(tmp_path), data_folder_out=str(tmp_path))
    assert "untested" in notice


def test_sqs_says_what_does_not_work_on_it() -> None:
    with sqs_server() as server:
        (notice,) = said(server.url, **SQS_OPTIONS)
    assert "events" in notice
    assert "remote control" in notice
    assert "testing:testing" not in notice


@pytest.mark.parametrize("words", [("inspect", "ping"), ("control", "revoke", "some-id"), ("status",)], ids=" ".join)
def test_remote_control_is_refused_at_once_where_it_cannot_work(words: tuple[str, ...]) -> None:
    """Nobody listens on that port: the answer is in the URL."""
    program = [sys.executable, "-m", "opsq", "-b", f"sqs://key:s3cret@127.0.0.1:{free_port()}//", *words]
    done = subprocess.run(program, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    *_, error = done.stderr.strip().splitlines()  # before it: which broker is meant
    assert error.startswith("opsq: broker sqs://")
    assert "remote control (inspect, control, revoke) does not work on it" in error
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr


def test_redis_says_when_it_keeps_nothing(redis: RedisServer, tmp_path: Path) -> None:
    (notice,) = said(redis.url)
    assert "nothing on disk" in notice
    with redis_server(tmp_path, "--appendonly", "yes") as lasting:
        assert said(lasting.url) == []


def test_redis_that_may_not_be_asked_is_left_in_peace(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--rename-command", "CONFIG", "") as closed:
        assert said(closed.url) == []


@pytest.mark.parametrize("scheme", LIBRARIES)
def test_a_missing_library_is_one_sentence(scheme: str) -> None:
    program = f"""
import sys
sys.modules[{LIBRARIES[scheme]!r}] = None
from opsq.broker.connection import BrokerConnection
from opsq.errors import ConfigError
try:
    BrokerConnection("{scheme}://host/x").connect()
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    text = done.stdout.strip()
    assert f'pip install "opsq[{EXTRAS[scheme]}]"' in text
    assert len(text.splitlines()) == 1, text
