"""Every set of values renders, passes lint, and is what Kubernetes takes; a wrong one is refused by its name."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml

from opsq.settings import OPTIONS
from opsq.web.access import accounts
from opsq.web.access.passwords import hash_token
from tests.helm.chart import CHART, VALUES, container, invalid, one, render, run_helm

MINIMAL = next(path for path in VALUES if path.stem == "minimal")
ALL_ON = next(path for path in VALUES if path.stem == "all-on")


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_a_set_of_values_renders_and_validates(values: Path) -> None:
    linted = run_helm("lint", "--strict", "--quiet", CHART, "--values", values)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    manifests = render(values)
    assert manifests
    assert invalid(manifests) == []


WRONG = {
    "workers.default.concurrency=0": "/workers/default/concurrency",
    "workers.default.poool=threads": "poool",
    "workers.default.pool=fibres": "/workers/default/pool",
    "settings.task_acks_lat=true": "task_acks_lat",
    "settings.task_time_limit=-1": "/settings/task_time_limit",
    "settings.broker_url=redis://x": "broker_url",
    "settings.task_default_delivery_mode=3": "/settings/task_default_delivery_mode",
    "monitor.port=80": "/monitor/port",
    "monitor.replicas=2": "monitor.replicas",
    "beat.replicas=2,broker.url=amqp://x": "beat.replicas",
    "broker.url=": "broker.url",
    "image.repository=": "image.repository",
    "image.digest=sha256:abc": "/image/digest",
    "workers.Default_1.replicas=1": "Default_1",
    "ingress.enabled=true": "ingress.hosts",
    "workers.default.autoscaling.type=magic": "/workers/default/autoscaling/type",
    "monitor.enabled=false,workers.default.autoscaling.type=keda": "monitor.enabled",
    "secretSettings.task_acks_late.name=x": "key",
    "workers.default.autoscaling.minReplicas=11": "workers.default.autoscaling.minReplicas",
    "workers.default.poolAutoscale.min=9,workers.default.poolAutoscale.max=8": "workers.default.poolAutoscale.min",
    "workers.default.autoscaling.scaleDownStabilizationSeconds=-1": "scaleDownStabilizationSeconds",
    "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true": "metrics.podMonitor.enabled",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_value_is_refused_by_its_name(wrong: str) -> None:
    done = run_helm("template", "shop", CHART, "--values", MINIMAL, "--set", wrong)
    assert done.returncode != 0
    assert WRONG[wrong] in done.stderr


def test_settings_become_the_environment_that_opsq_reads() -> None:
    given = {
        "task_time_limit": 600,
        "task_acks_late": False,
        "task_payload_redact": ["iban"],
        "message_max_bytes": 67108864,
    }
    worker = one(render(MINIMAL, settings=given), "Deployment", "-worker-default")
    environment = {each["name"]: each.get("value") for each in container(worker)["env"]}
    assert environment["OPSQ_TASK_TIME_LIMIT"] == "600"
    assert environment["OPSQ_TASK_ACKS_LATE"] == "false"
    assert environment["OPSQ_MESSAGE_MAX_BYTES"] == "67108864"
    assert json.loads(environment["OPSQ_TASK_PAYLOAD_REDACT"]) == ["iban"]
    named = {name.removeprefix("OPSQ_").lower() for name in environment if name.startswith("OPSQ_")}
    assert named <= set(OPTIONS)


def test_the_grace_period_follows_the_time_limit() -> None:
    worker = one(render(MINIMAL, settings={"task_time_limit": 600}), "Deployment", "-worker-default")
    environment = {each["name"]: each.get("value") for each in container(worker)["env"]}
    assert worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 630
    assert environment["OPSQ_WORKER_SHUTDOWN_TIMEOUT"] == "615"


def test_the_admin_secret_is_kept_and_can_be_used() -> None:
    secret = one(render(MINIMAL), "Secret", "-admin")
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert len(data["password"]) == 24
    assert len(data["secret-key"]) == 64
    token = json.loads(data["users.json"])["tokens"]["metrics"]
    assert token["hash"] == hash_token(data["metrics-token"])


def test_the_accounts_file_is_one_that_opsq_reads(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    path.write_bytes(base64.b64decode(one(render(MINIMAL), "Secret", "-admin")["data"]["users.json"]))
    assert accounts.read(path).tokens["metrics"].grants() == {"metrics"}


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_no_secret_is_written_outside_secrets(values: Path) -> None:
    others = [each for each in render(values) if each["kind"] != "Secret"]
    assert ":secret@" not in yaml.safe_dump_all(others)


def test_pods_are_confined_and_probed() -> None:
    for manifest in render(ALL_ON):
        if manifest["kind"] not in ("Deployment", "Job", "Pod"):
            continue
        pod = manifest["spec"].get("template", manifest)["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container(manifest)["securityContext"]["readOnlyRootFilesystem"] is True
        assert container(manifest)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        if "worker" in manifest["metadata"]["name"] and manifest["kind"] == "Deployment":
            assert container(manifest)["livenessProbe"]["httpGet"]["path"] == "/live"


def test_an_upgrade_changes_nothing_that_is_immutable() -> None:
    first = {
        each["metadata"]["name"]: each["spec"]["selector"] for each in render(MINIMAL) if each["kind"] == "Deployment"
    }
    later = render(MINIMAL, image__tag="2", settings={"task_time_limit": 9}, workers__default__concurrency=8)
    assert first == {
        each["metadata"]["name"]: each["spec"]["selector"] for each in later if each["kind"] == "Deployment"
    }


def test_a_history_that_comes_with_an_upgrade_is_migrated_by_its_new_url() -> None:
    """The release's Secret is changed after the hook: its URL would be the old one, or none, and the Job would hang."""
    manifests = render(MINIMAL, monitor__history__url="postgresql://db/new")
    job = one(manifests, "Job", "-migrations")
    place = container(job)["env"][0]["valueFrom"]["secretKeyRef"]
    secret = one(manifests, "Secret", place["name"])
    assert base64.b64decode(secret["data"][place["key"]]) == b"postgresql://db/new"
    hooks = [each["metadata"]["annotations"] for each in (secret, job)]
    assert {each["helm.sh/hook"] for each in hooks} == {"pre-upgrade"}
    weights = [int(each.get("helm.sh/hook-weight", 0)) for each in hooks]
    assert weights[0] < weights[1]


def test_replicas_of_every_part_are_spread_and_not_evicted_together() -> None:
    manifests = render(ALL_ON)
    deployments = [each for each in manifests if each["kind"] == "Deployment"]
    budgets = {each["metadata"]["name"]: each["spec"] for each in manifests if each["kind"] == "PodDisruptionBudget"}
    assert {each["metadata"]["name"] for each in deployments} == budgets.keys()
    for each in deployments:
        selector = each["spec"]["selector"]
        assert budgets[each["metadata"]["name"]]["selector"] == selector
        spread = each["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [rule["labelSelector"] for rule in spread] == [selector, selector]
        assert {rule["whenUnsatisfiable"] for rule in spread} == {"ScheduleAnyway"}


@pytest.mark.parametrize("kind", ["hpa", "keda"])
def test_scaling_down_waits_at_most_a_minute(kind: str) -> None:
    """The monitor's own decision has waited already; Kubernetes' 300 s would come on top."""
    values = next(path for path in VALUES if path.stem == kind)
    (scaler,) = [
        each
        for each in render(values)
        if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject") and each["metadata"]["name"].endswith("-default")
    ]
    spec = scaler["spec"]
    behavior = (spec if kind == "hpa" else spec["advanced"]["horizontalPodAutoscalerConfig"])["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert 0 <= behavior["scaleDown"]["stabilizationWindowSeconds"] <= 60


def test_a_packed_chart_is_whole(tmp_path: Path) -> None:
    done = run_helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    (packed,) = tmp_path.glob("*.tgz")
    unpacked = run_helm("template", "shop", packed, "--values", ALL_ON, "--namespace", "jobs")
    beside = run_helm("template", "shop", CHART, "--values", ALL_ON, "--namespace", "jobs")
    assert unpacked.stdout.count("\nkind: ") == beside.stdout.count("\nkind: ") > 20


def test_a_custom_resource_that_is_wrong_is_seen() -> None:
    keda = next(path for path in VALUES if path.stem == "keda")
    scaled = one(render(keda), "ScaledObject", "-mail")
    scaled["spec"]["pollingInterval"] = "often"
    del scaled["spec"]["scaleTargetRef"]
    assert len(invalid([scaled])) == 2


def test_no_field_is_unknown_to_the_custom_resources() -> None:
    """Their published schemas let unknown fields pass, and a cluster drops them unsaid; so they are listed here."""
    known = {
        "ScaledObject": {"scaleTargetRef", "pollingInterval", "cooldownPeriod", "minReplicaCount", "maxReplicaCount",
                         "fallback", "advanced", "triggers"},
        "TriggerAuthentication": {"secretTargetRef"},
        "ServiceMonitor": {"jobLabel", "selector", "endpoints"},
        "PodMonitor": {"selector", "podMetricsEndpoints"},
        "PrometheusRule": {"groups"},
    }  # fmt: skip
    for values in VALUES:
        for each in render(values):
            assert set(each["spec"]) <= known.get(each["kind"], set(each.get("spec", ()))) if "spec" in each else True
