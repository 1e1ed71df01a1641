"""Alerts at a running system: what they tell of is done to it, and the right one fires."""

from __future__ import annotations

from pathlib import Path

from tests.helm.chart import one
from tests.helm.prometheus import Prometheus, prometheus
from tests.helm.site import Site, installed
from tests.servers import redis_server


def _token(site: Site) -> str:
    return site.node.secret(one(site.manifests, "Secret", "-admin")["metadata"]["name"], "metrics-token")


def _heard(site: Site, scraper: Prometheus) -> None:
    site.node.pods[0].wait(lambda: scraper.query('opsq_workers{status="online"} == 1'), "Prometheus knows the worker")


def test_six_alerts_fire_for_what_they_are_about(tmp_path: Path) -> None:
    settings = {"monitor_worker_offline_after": 5, "worker_heartbeat_interval": 1}
    with (
        redis_server(tmp_path, "--appendonly", "yes") as server,
        installed(tmp_path, server.url, settings=settings) as site,
    ):
        monitor = site.start("monitor").until("startup")
        worker = site.start("worker-default").until("readiness")
        with prometheus(tmp_path, site.port, token=_token(site)) as scraper:
            _heard(site, scraper)
            monitor.wait(lambda: not scraper.firing(), "a healthy system, of which no alert tells")

            site.client.send_task("shop.nobody_knows_this")
            scraper.until_firing("OpsqQuarantine")

            for _ in range(30):
                site.client.send_task("shop.fail")
            # A counter grows only between two scrapes.
            monitor.wait(lambda: scraper.query('opsq_tasks_total{type="shop.fail", state="failed"} > 0'), "failures")
            for _ in range(30):
                site.client.send_task("shop.fail")
            assert scraper.until_firing("OpsqTasksFail")["type"] == "shop.fail"

            worker.kill()
            assert "default@" in scraper.until_firing("OpsqWorkerLost")["worker"]
            site.send(range(3), 5)
            assert scraper.until_firing("OpsqQueueWithoutWorker")["queue"] == "celery"

            server.stop()
            scraper.until_firing("OpsqBrokerNotHeard")
            monitor.kill()
            scraper.until_firing("OpsqMonitorDown")
