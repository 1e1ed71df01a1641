"""What the chart does with a cluster before it: the admin's Secret is kept, and the notes say what to do."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import CHART, VALUES, container, one, render, run_helm
from tests.helm.cluster import cluster, installed_release

GROUPS = next(path for path in VALUES if path.stem == "groups")
INGRESS = next(path for path in VALUES if path.stem == "ingress")


def _dry_run(command: str, values: Path, kubeconfig: Path, name: str = "shop") -> str:
    words = [command, name, CHART, "--values", values, "--kubeconfig", kubeconfig, "--dry-run=server"]
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


def test_the_notes_of_an_upgrade_say_how_to_go_back(tmp_path: Path) -> None:
    """Helm's own upgrade, by the command of docs/deploying.md, of what was installed with other values."""
    manifests = render(GROUPS, name="shop", namespace="default")
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    before = installed_release({**yaml.safe_load(GROUPS.read_text()), "beat": {"replicas": 2}}, chart)
    with cluster(tmp_path, manifests, before) as kubeconfig:
        assert "rollback" not in _dry_run("install", GROUPS, kubeconfig, name="other")
        words = ("upgrade", "shop", CHART, "--reset-then-reuse-values", "--set", "image.tag=2026.12")
        done = run_helm(*words, "--kubeconfig", kubeconfig, "--dry-run=server", "--disable-openapi-validation")
    assert done.returncode == 0, done.stderr
    text, _, notes = done.stdout.partition("NOTES:")
    assert "is upgraded as shop" in notes
    assert "Revision 2" in notes
    assert "rollout status deployment --selector app.kubernetes.io/instance=shop" in notes
    assert "helm rollback shop --namespace default" in notes
    later = [each for each in yaml.safe_load_all(text.partition("MANIFEST:")[2]) if each]
    beat = one(later, "Deployment", "-beat")
    assert beat["spec"]["replicas"] == 2
    assert container(beat)["image"] == "shop:2026.12"


def test_the_password_is_read_as_the_notes_say(tmp_path: Path) -> None:
    """The command of the notes, copied, put to a real kubectl and to an API that has the Secret."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here (apt-get install kubernetes-client)")
    manifests = render(GROUPS, name="shop", namespace="default")
    secret = one(manifests, "Secret", "-admin")
    # As Helm marks what it made; a release that was removed and is installed again takes it over.
    secret["metadata"]["annotations"] |= {
        "meta.helm.sh/release-name": "shop",
        "meta.helm.sh/release-namespace": "default",
    }
    kept = {"/api/v1/namespaces/default/secrets/shop-opsq-admin": secret}
    with cluster(tmp_path, manifests, kept) as kubeconfig:
        _, _, notes = _dry_run("install", GROUPS, kubeconfig).partition("NOTES:")
        (command,) = [line.strip() for line in notes.splitlines() if "get secret" in line]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig)}
        said = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60)
    assert said.stdout.strip() == base64.b64decode(secret["data"]["password"]).decode(), said.stderr


def test_the_notes_name_the_ingress(tmp_path: Path) -> None:
    with cluster(tmp_path, render(INGRESS, name="shop", namespace="default")) as kubeconfig:
        assert "https://shop.example.org/opsq" in _dry_run("install", INGRESS, kubeconfig)
