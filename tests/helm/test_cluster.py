"""What the chart does with a cluster before it: the admin's Secret is kept, and the notes say what to do."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from tests.helm.chart import CHART, VALUES, one, render, run_helm
from tests.helm.cluster import cluster

GROUPS = next(path for path in VALUES if path.stem == "groups")
INGRESS = next(path for path in VALUES if path.stem == "ingress")


def _dry_run(command: str, values: Path, kubeconfig: Path) -> str:
    words = [command, "shop", CHART, "--values", values, "--kubeconfig", kubeconfig, "--dry-run=server"]
    done = run_helm(*words, *(["--disable-openapi-validation"] if command == "install" else []))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_upgrade_keeps_the_admins_secret(tmp_path: Path) -> None:
    first = render(GROUPS, name="shop", namespace="default")
    there = one(first, "Secret", "-admin")
    kept = {"/api/v1/namespaces/default/secrets/shop-opsq-admin": there}
    with cluster(tmp_path, first, kept) as kubeconfig:
        later = [each for each in yaml.safe_load_all(_dry_run("template", GROUPS, kubeconfig)) if each]
    assert one(later, "Secret", "-admin")["data"] == there["data"]
    assert one(render(GROUPS), "Secret", "-admin")["data"]["password"] != there["data"]["password"]


def test_the_notes_say_how_to_sign_in_and_what_runs(tmp_path: Path) -> None:
    manifests = render(GROUPS, name="shop", namespace="default")
    with cluster(tmp_path, manifests) as kubeconfig:
        _, _, notes = _dry_run("install", GROUPS, kubeconfig).partition("NOTES:")
    assert "port-forward service/shop-opsq-monitor 5555:80" in notes
    assert "get secret shop-opsq-admin --output jsonpath='{.data.password}' | base64 --decode" in notes
    assert "images: queues images, prefork, 4 slots a replica, 1830 s to end, autoscaling none" in notes
    assert base64.b64decode(one(manifests, "Secret", "-admin")["data"]["password"]).decode() not in notes


def test_the_notes_name_the_ingress(tmp_path: Path) -> None:
    with cluster(tmp_path, render(INGRESS, name="shop", namespace="default")) as kubeconfig:
        assert "https://shop.example.org/opsq" in _dry_run("install", INGRESS, kubeconfig)
