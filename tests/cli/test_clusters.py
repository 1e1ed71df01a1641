"""Several brokers in one monitor: each named, each with a history and a page of its own."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from opsq import Opsq
from opsq.cli.clusters import named, settings_by_name
from opsq.errors import UsageError
from opsq.monitor import run_monitor
from opsq.settings import Settings
from tests.servers import free_port


def test_names_before_urls() -> None:
    assert named(None) == {}
    assert named("redis://a/0?x=1") == {}
    assert named(("shop=redis://a/0?x=1", "mail=amqp://u:p=q@b")) == {
        "shop": "redis://a/0?x=1",
        "mail": "amqp://u:p=q@b",
    }
    for wrong in (("shop=redis://a", "amqp://b"), ("shop=redis://a", "shop=redis://b")):
        with pytest.raises(UsageError):
            named(wrong)


def test_each_cluster_keeps_to_itself(tmp_path: Path) -> None:
    settings = Settings().replace(data_dir=str(tmp_path), web_port=7000, broker_read_url="redis://elsewhere")
    made = settings_by_name(settings, {"shop": "redis://a", "mail": "amqp://b"})
    assert [each.web_port for each in made.values()] == [7000, 7001]
    assert [each.resolved_broker_url("read") for each in made.values()] == ["redis://a", "amqp://b"]
    assert len({each.resolved_store_url() for each in made.values()}) == 2
    with pytest.raises(UsageError):
        settings_by_name(settings.replace(monitor_store_url="postgresql://h/d"), {"a": "redis://a", "b": "redis://b"})
    by_place = settings.replace(monitor_store_url="postgresql://h/{cluster}")
    assert settings_by_name(by_place, {"a": "redis://a"})["a"].monitor_store_url == "postgresql://h/a"


def test_two_clusters_are_watched_at_once(tmp_path: Path) -> None:
    port = free_port()
    settings = Settings().replace(data_dir=str(tmp_path), web_port=port, log_level="ERROR")
    urls = {name: f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two")}
    clusters = {name: each.replace(web_port=free_port()) for name, each in settings_by_name(settings, urls).items()}
    stop = threading.Event()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run_monitor(clusters, stop=stop)))
    thread.start()
    apps = {name: Opsq(name, broker=url, data_dir=str(tmp_path), set_as_current=False) for name, url in urls.items()}
    try:
        for name, each in clusters.items():
            base = f"http://127.0.0.1:{each.web_port}/api/v1/tasks"
            seen = _names(base, lambda name=name: apps[name].send_task(f"{name}.job"))
            assert seen == {f"{name}.job"}
    finally:
        stop.set()
        thread.join(15)
        for app in apps.values():
            app.close()
    assert codes == [0]


def _names(url: str, send: Any) -> set[str]:
    """The task types that a page lists, once it lists one."""
    for _ in range(300):
        try:
            with urlopen(url, timeout=60) as answer:
                found = {each["type"] for each in json.load(answer)["tasks"]}
        except HTTPError as error:
            error.close()
            found = None
        except (URLError, ConnectionError):
            found = None
        if found:
            return found
        if found is not None:
            send()
        threading.Event().wait(0.05)
    return set()
