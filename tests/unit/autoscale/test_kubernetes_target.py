"""Replicas through the scale sub-resource: conflicts, refusals, pauses, and what a service account brings along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from opsq.autoscale.fleet_sight import Served
from opsq.autoscale.kubernetes import Access, KubernetesTarget, in_cluster
from opsq.autoscale.targets import CannotScale, Size
from opsq.errors import ConfigError
from tests.unit.autoscale.kubernetes_api import SCALE, KubernetesApi, hpa

NOBODY = Served(0, 0, ())


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    made = KubernetesApi()
    yield made
    made.close()


@pytest.fixture
def target(api: KubernetesApi, tmp_path: Path) -> Iterator[KubernetesTarget]:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    made = KubernetesTarget("shop/deployment/worker", 4, Access(api.url, str(token)))
    yield made
    made.close()


def test_the_size_is_in_slots_and_knows_what_starts(api: KubernetesApi, target: KubernetesTarget) -> None:
    api.ready = 1
    assert target.size(NOBODY) == Size(8, starting=4)
    method, path, headers, _ = api.requests[-1]
    assert (method, path, headers["Authorization"]) == ("GET", SCALE, "Bearer s3cret")


def test_a_resize_patches_the_version_it_read(api: KubernetesApi, target: KubernetesTarget) -> None:
    target.resize(17, NOBODY)
    assert api.replicas == 5
    method, _, headers, body = api.requests[-1]
    assert (method, headers["Content-Type"]) == ("PATCH", "application/merge-patch+json")
    assert body == {"metadata": {"resourceVersion": "41"}, "spec": {"replicas": 5}}
    requests = len(api.requests)
    target.resize(20, NOBODY)
    assert [one[0] for one in api.requests[requests:]] == ["GET", "GET"], "nothing is written where nothing changes"


def test_a_conflict_is_read_again(api: KubernetesApi, target: KubernetesTarget) -> None:
    api.conflicts = 2
    target.resize(12, NOBODY)
    assert api.replicas == 3
    api.conflicts = 9
    with pytest.raises(CannotScale, match="changed by somebody else all the time"):
        target.resize(40, NOBODY)
    assert api.replicas == 3


@pytest.mark.parametrize("note", ["opsq.dev/paused", "autoscaling.keda.sh/paused"])
def test_what_is_paused_is_left_alone(api: KubernetesApi, target: KubernetesTarget, note: str) -> None:
    api.annotations = {note: "true"}
    with pytest.raises(CannotScale, match="paused by annotation"):
        target.resize(12, NOBODY)
    assert api.replicas == 2


def test_it_does_not_fight_kubernetes_own_autoscaler(api: KubernetesApi, target: KubernetesTarget) -> None:
    api.hpas = [hpa("other", "web"), hpa("keda-hpa-worker", "worker")]
    with pytest.raises(CannotScale, match="keda-hpa-worker scales deployment/worker too"):
        target.resize(12, NOBODY)
    api.hpas = [hpa("other", "web"), hpa("same-name", "worker", kind="StatefulSet")]
    target.resize(12, NOBODY)
    assert api.replicas == 3


@pytest.mark.parametrize(("status", "said"), [(403, "the service account may not"), (401, "token"), (500, "forbidden")])
def test_a_refusal_says_what_to_do(api: KubernetesApi, target: KubernetesTarget, status: int, said: str) -> None:
    api.status = status
    with pytest.raises(CannotScale, match=said):
        target.size(NOBODY)


def test_what_is_not_there(api: KubernetesApi, tmp_path: Path) -> None:
    target = KubernetesTarget("deployment/gone", 1, Access(api.url, "", "", "shop"))
    with pytest.raises(CannotScale, match="404, there is no such thing"):
        target.size(NOBODY)
    target.close()
    api.close()
    target = KubernetesTarget("shop/deployment/worker", 1, Access(api.url))
    with pytest.raises(CannotScale, match="does not answer"):
        target.size(NOBODY)
    target.close()


@pytest.mark.parametrize("scales", ["worker", "job/worker", "a/b/c/d", "shop/deployment/"])
def test_what_cannot_be_scaled_is_said_at_boot(scales: str) -> None:
    with pytest.raises(ConfigError, match=r"expected \[NAMESPACE/\]KIND/NAME"):
        KubernetesTarget(scales, 1, Access("http://127.0.0.1:1"))


def test_a_pod_finds_its_account(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run the monitor in the cluster it scales"):
        in_cluster(tmp_path)
    (tmp_path / "token").write_text("t")
    (tmp_path / "namespace").write_text("shop\n")
    (tmp_path / "ca.crt").write_text("")
    found = in_cluster(tmp_path, "https://k8s")
    assert found == Access("https://k8s", str(tmp_path / "token"), str(tmp_path / "ca.crt"), "shop")
