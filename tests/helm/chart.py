"""The chart through real Helm: rendering, lint, and the check of every manifest against Kubernetes' own schemas."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.servers import missing

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "opsq"
VALUES = sorted((Path(__file__).parent / "values").glob("*.yaml"))
KUBERNETES = ("1.30.0", "1.34.0")
_KINDS = ROOT / ".servers" / "kubernetes-models"
_CUSTOM = ("keda.sh/", "monitoring.coreos.com/")

Manifest = dict[str, Any]


def helm() -> str:
    """Path of Helm; skips the test, or fails in CI, where there is none."""
    built = sorted(ROOT.glob(".servers/helm-v3.*/helm"))
    found = str(built[-1]) if built else shutil.which("helm")
    return found or missing("Helm", "scripts/install-helm")


def run_helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Helm; what it said, whether it went well or not."""
    return subprocess.run([helm(), *map(str, words)], capture_output=True, text=True, check=False)


def render(*files: Path, name: str = "shop", namespace: str = "jobs", **sets: Any) -> list[Manifest]:
    """Render the chart with these files of values, and ``a__b=1`` for the value a.b."""
    words: list[str | Path] = ["template", name, CHART, "--namespace", namespace, "--kube-version", KUBERNETES[-1]]
    for file in files:
        words += ["--values", file]
    for key, value in sets.items():
        words += ["--set-json", f"{key.replace('__', '.')}={json.dumps(value)}"]
    done = run_helm(*words)
    if done.returncode:
        pytest.fail(f"helm {done.returncode}: {done.stderr}", pytrace=False)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def one(manifests: Iterable[Manifest], kind: str, ending: str) -> Manifest:
    """The only object of a kind whose name ends so."""
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"].endswith(ending)]
    assert len(found) == 1, [each["metadata"]["name"] for each in found]
    return found[0]


def invalid(manifests: list[Manifest]) -> list[str]:
    """What Kubernetes, KEDA and the Prometheus operator would refuse; empty when all is well."""
    custom = [each for each in manifests if each["apiVersion"].startswith(_CUSTOM)]
    return [*_core_faults(each for each in manifests if each not in custom), *_custom_faults(custom)]


def _core_faults(manifests: Iterable[Manifest]) -> Iterator[str]:
    for each in manifests:
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                yield f"{each['kind']} {each['metadata']['name']} on {version}: {error.message}"


def _custom_faults(manifests: list[Manifest]) -> list[str]:
    if not manifests:
        return []
    node = shutil.which("node")
    if node is None or not _KINDS.exists():
        missing("node, or the schemas of custom resources,", "scripts/install-kinds")
    script = Path(__file__).with_name("kinds.mjs")
    done = subprocess.run(
        [node, str(script), str(_KINDS)], input=json.dumps(manifests), capture_output=True, text=True, check=True
    )
    faults: list[str] = json.loads(done.stdout)
    return faults


def container(manifest: Manifest) -> Mapping[str, Any]:
    """The only container of a Deployment, Job or Pod."""
    template = manifest["spec"].get("template", manifest)
    containers = template["spec"]["containers"]
    assert len(containers) == 1
    found: Mapping[str, Any] = containers[0]
    return found
