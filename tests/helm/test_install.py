"""Rendered commands and environments run here as they stand: tasks run, the schedule ticks, the page shows it."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.helm.chart import ROOT, VALUES, Manifest, container, one
from tests.helm.prometheus import prometheus
from tests.helm.site import Site, installed
from tests.servers import missing, redis_server
from tests.servers_sql import history_server, new_database

KEDA = next(path for path in VALUES if path.stem == "keda")
HPA = next(path for path in VALUES if path.stem == "hpa")
DOCS = ROOT / "docs" / "deploying.md"
_ADAPTER = re.compile(r"^```yaml\n(externalRules:\n.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(params=["sqlite", "redis"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a broker that all pods reach."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/broker.db"
        return
    with redis_server(tmp_path) as server:
        yield server.url


def test_worker_beat_and_monitor_work_as_rendered(broker: str, tmp_path: Path) -> None:
    with installed(tmp_path, broker) as site:
        monitor, worker, _ = site.start("monitor"), site.start("worker-default"), site.start("beat")
        worker.until("startup").until("readiness")
        monitor.until("startup").until("readiness")
        site.send(range(20), 5)
        worker.wait(lambda: len(site.ledger().done) == 21, "20 calls and a tick of the schedule")
        monitor.wait(lambda: site.json("/api/v1/tasks?state=SUCCESS&limit=50")["total"] > 20, "the page shows them")
        assert b"shop.work" in site.page("/tasks")
        said = {container(pod)["name"]: _tested(site, pod) for pod in site.manifests if pod["kind"] == "Pod"}
        assert "1 worker online" in said["workers"]
        assert json.loads(said["page"]) == {"status": "live"}


def _tested(site: Site, pod: Manifest) -> str:
    """What a pod of ``helm test`` says; the name of the Service is this machine's address."""
    command = container(pod)["command"]
    command[:] = [word.replace("//shop-opsq-monitor:80/", f"//127.0.0.1:{site.port}/") for word in command]
    return site.node.start(pod).run()


def test_a_container_can_write_to_its_volumes_only(tmp_path: Path) -> None:
    with installed(tmp_path, f"sqlite:///{tmp_path}/broker.db") as site:
        if not site.node.seal:
            missing("a mount namespace", "run as root on Linux, with util-linux")
        words = [*site.node.seal, "touch", str(Path(__file__).with_name("never")), f"{tmp_path}/yes"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Read-only file system" in done.stderr
    assert (tmp_path / "yes").exists()
    assert not Path(__file__).with_name("never").exists()


def test_the_page_asks_for_the_password_of_the_secret(tmp_path: Path) -> None:
    with installed(tmp_path, f"sqlite:///{tmp_path}/broker.db") as site:
        site.start("monitor").until("startup")
        secret = one(site.manifests, "Secret", "-admin")["metadata"]["name"]
        token = site.node.secret(secret, "metrics-token")
        assert b"opsq_build_info" in site.page("/metrics", token=token, host="shop-opsq-monitor.jobs.svc")
        for path, wrong in (("/api/v1/tasks", token), ("/metrics", "opsq_wrong")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                site.page(path, token=wrong)
            with refused.value as answer:
                assert answer.code in (401, 403)


def test_migrations_and_monitor_share_a_postgresql(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, history_server() as database:
        history = new_database(database)
        with installed(tmp_path, server.url, monitor__history__url=history) as site:
            site.node.start(one(site.manifests, "Job", "-migrations")).run()
            worker = site.start("worker-default").until("readiness")
            monitor = site.start("monitor").until("startup").until("readiness")
            site.send(range(3), 5)
            worker.wait(lambda: len(site.ledger().done) == 3, "three calls")
            monitor.wait(lambda: _shown(site) == ["SUCCESS"] * 3, "the page shows them")


def _shown(site: Site) -> list[str]:
    """States of the tasks that the page knows; printed, so that a failure says what was there."""
    states = [task["state"] for task in site.json("/api/v1/tasks")["tasks"]]
    print(states)
    return states


def _scaled(site: Site) -> None:
    """Have the monitor decide about the group ``default``."""
    monitor = site.start("monitor").until("startup")
    site.start("worker-default").until("readiness")
    site.send(range(5), 5)
    monitor.wait(lambda: b'opsq_autoscale_desired_slots{group="default"}' in _metrics(site), "a decision")


def _metrics(site: Site) -> bytes:
    return site.page(f"{_prefix(site)}/metrics")


def _prefix(site: Site) -> str:
    words = container(one(site.manifests, "Deployment", "-monitor"))["args"]
    return next((word.partition("=")[2] for word in words if word.startswith("--url-prefix=")), "")


def test_keda_finds_the_number_that_its_trigger_names(tmp_path: Path) -> None:
    with installed(tmp_path, f"sqlite:///{tmp_path}/broker.db", KEDA) as site:
        _scaled(site)
        scaled = one(site.manifests, "ScaledObject", "-worker-default")
        trigger = scaled["spec"]["triggers"][0]
        login = one(site.manifests, "TriggerAuthentication", trigger["authenticationRef"]["name"])
        place = login["spec"]["secretTargetRef"][0]
        token = site.node.secret(place["name"], place["key"])
        url = urlsplit(trigger["metadata"]["url"])
        answer = site.json(f"{url.path}?{url.query}", token=token, host=url.netloc)
        assert answer["group"] == "default"
        assert 0 <= answer[trigger["metadata"]["valueLocation"]] <= 50 * 4


def test_hpa_names_a_metric_that_the_adapter_finds_in_prometheus(tmp_path: Path) -> None:
    """The adapter's rule is that of the docs, filled in as the adapter does; a real Prometheus answers it."""
    (rule,) = yaml.safe_load(_ADAPTER.findall(DOCS.read_text())[0])["externalRules"]
    with installed(tmp_path, f"sqlite:///{tmp_path}/broker.db", HPA) as site:
        _scaled(site)
        scaler = one(site.manifests, "HorizontalPodAutoscaler", "-worker-default")
        metric = scaler["spec"]["metrics"][0]["external"]["metric"]
        assert metric["name"] == rule["name"]["as"]
        labels = ",".join(f'{name}="{value}"' for name, value in metric["selector"]["matchLabels"].items())
        asked = rule["metricsQuery"].replace("<<.Series>>", rule["seriesQuery"]).replace("<<.LabelMatchers>>", labels)
        token = site.node.secret(one(site.manifests, "Secret", "-admin")["metadata"]["name"], "metrics-token")
        with prometheus(tmp_path, site.port, token=token) as scraper:
            site.node.pods[0].wait(lambda: scraper.query(asked), f"an answer to {asked}")
            (answer,) = scraper.query(asked)
    assert answer["metric"] == {"group": "default"}
    assert float(answer["value"][1]) >= 1
