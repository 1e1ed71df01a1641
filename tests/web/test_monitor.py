"""The whole monitor: comes up without a broker, stops at once with pages open, says what is wrong in one sentence."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from opsq.bootsteps import Graph
from opsq.errors import ConfigError, ExitCode
from opsq.monitor import broker_name, build, env_name, run_monitor
from opsq.settings import Settings
from opsq.web.server import WebServer
from tests.promises import within


def nobody_listens() -> int:
    """A port on which nothing answers."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[tuple[Graph, str]]:
    """A started monitor and the address of its page."""
    graph = build(settings)
    graph.start()
    try:
        yield graph, graph.provided[WebServer].address.url
    finally:
        graph.stop(5.0)


def read(url: str) -> str:
    with urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def embedded(tmp_path: Path) -> Settings:
    return Settings().replace(data_dir=str(tmp_path / "data"), web_port=0)


def test_the_parts_start_in_their_order(tmp_path: Path) -> None:
    assert build(embedded(tmp_path)).order() == ["history", "cluster", "fold", "depth", "intake", "steering", "pages"]
    assert "pages" not in build(embedded(tmp_path), web=False).order()


def test_pages_come_up_without_a_broker(tmp_path: Path) -> None:
    settings = embedded(tmp_path).replace(broker_url=f"redis://:secret@127.0.0.1:{nobody_listens()}/0")
    with running(settings) as (_, url):
        page = read(url)
        assert "The broker cannot be heard" in page
        assert "secret" not in page
        assert json.loads(read(url + "healthz")) == {"status": "live"}
        assert json.loads(read(url + "api/v1/overview"))["connected"] is False


def test_it_stops_at_once_with_a_page_open(tmp_path: Path) -> None:
    graph = build(embedded(tmp_path))
    graph.start()
    url = graph.provided[WebServer].address.url
    with urlopen(url + "live/overview", timeout=60) as stream:
        assert stream.readline().startswith(b"retry:")
        began = time.monotonic()
        graph.stop(3.0)
        assert time.monotonic() - began < within(3.0)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("opsq-")]


def test_run_ends_with_its_event(tmp_path: Path) -> None:
    stop = threading.Event()
    codes: list[int] = []
    runner = threading.Thread(target=lambda: codes.append(run_monitor(embedded(tmp_path), stop=stop)))
    runner.start()
    stop.set()
    runner.join(10)
    assert codes == [ExitCode.OK]


def test_a_taken_port_leaves_nothing_running(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is taken"):
            run_monitor(embedded(tmp_path).replace(web_port=port))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("opsq-")]


def test_it_does_not_open_itself_to_the_network(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="served on loopback only"):
        run_monitor(embedded(tmp_path).replace(web_host="0.0.0.0"))


def test_a_history_nobody_can_keep_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mongodb"):
        run_monitor(embedded(tmp_path).replace(monitor_store_url="mongodb://x"))


def test_names_of_what_is_watched(tmp_path: Path) -> None:
    assert env_name(embedded(tmp_path)) == "local"
    redis = Settings().replace(broker_url="redis://:hunter2@broker.internal:6379/0")
    assert env_name(redis) == "broker.internal:6379"
    assert "hunter2" not in broker_name(redis)
