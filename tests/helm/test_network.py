"""What the network policies let through, judged by their own words: who reaches what, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.helm.chart import VALUES, container, render

POLICY = next(path for path in VALUES if path.stem == "network-policy")
Labels = Mapping[str, str]
PROMETHEUS = {"kubernetes.io/metadata.name": "monitoring"}
ELSEWHERE = {"kubernetes.io/metadata.name": "elsewhere"}
OURS = {"app.kubernetes.io/name": "opsq", "app.kubernetes.io/instance": "shop"}
WORKER = {**OURS, "app.kubernetes.io/component": "worker-default"}
MONITOR = {**OURS, "app.kubernetes.io/component": "monitor"}
STRANGER = {"app": "shop-front"}


def _fits(selector: Mapping[str, Any], labels: Labels) -> bool:
    """A label selector, with the one operator that the chart uses."""
    for told in selector.get("matchExpressions", ()):
        assert told["operator"] == "NotIn"
        if labels.get(told["key"]) in told["values"]:
            return False
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


def _peer(peer: Mapping[str, Any], pod: Labels, place: Labels | None) -> bool:
    """Whether a rule names this pod. place: labels of its namespace; none is the release's own."""
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        return place is not None and _fits(peer["namespaceSelector"], place) and _fits(peer.get("podSelector", {}), pod)
    return place is None and _fits(peer["podSelector"], pod)


def allowed(way: str, at: Labels, other: Labels, port: int | str, place: Labels | None = None, **values: Any) -> bool:
    """Whether ``at`` may be reached from ("ingress") or reach ("egress") another pod at ``port``."""
    policies = [each["spec"] for each in render(POLICY, **values) if each["kind"] == "NetworkPolicy"]
    closed = [each for each in policies if _fits(each["podSelector"], at) and way.capitalize() in each["policyTypes"]]
    if not closed:
        return True
    rules = [rule for each in closed for rule in each.get(way) or ()]
    side = {"ingress": "from", "egress": "to"}[way]
    return any(
        (side not in rule or any(_peer(peer, other, place) for peer in rule[side]))
        and ("ports" not in rule or any(each["port"] == port for each in rule["ports"]))
        for rule in rules
    )


@pytest.mark.parametrize(
    ("other", "place", "port", "told"),
    [
        ({"app": "prometheus"}, PROMETHEUS, "web", True),
        (WORKER, None, "web", True),
        ({**OURS, "app.kubernetes.io/component": "test"}, None, "web", True),
        (STRANGER, None, "web", False),
        ({"app": "prometheus"}, ELSEWHERE, "web", False),
        ({"app": "prometheus"}, PROMETHEUS, 22, False),
    ],
)
def test_who_reaches_the_page(other: Labels, place: Labels | None, port: int | str, told: bool) -> None:
    assert allowed("ingress", MONITOR, other, port, place) is told


def test_everybody_reaches_the_page_when_nobody_is_named() -> None:
    assert allowed("ingress", MONITOR, STRANGER, "web", networkPolicy__monitorFrom=[])


@pytest.mark.parametrize("part", ["worker-default", "beat", "migrations", "test"])
def test_nobody_reaches_what_serves_nobody(part: str) -> None:
    at = {**OURS, "app.kubernetes.io/component": part}
    assert not allowed("ingress", at, STRANGER, 8081)
    assert not allowed("ingress", at, MONITOR, 8081)


@pytest.mark.parametrize("at", [WORKER, MONITOR, {**OURS, "app.kubernetes.io/component": "beat"}])
def test_every_part_reaches_names_the_broker_and_its_own_kind_only(at: Labels) -> None:
    assert allowed("egress", at, {"k8s-app": "kube-dns"}, 53, {"kubernetes.io/metadata.name": "kube-system"})
    assert allowed("egress", at, {"app": "redis"}, 6379)
    assert allowed("egress", at, MONITOR, "web")
    assert not allowed("egress", at, {"app": "redis"}, 22)
    assert not allowed("egress", at, STRANGER, 80)


def test_pods_go_anywhere_when_no_place_is_named() -> None:
    assert allowed("egress", WORKER, STRANGER, 80, networkPolicy__egress=[])


def test_every_pod_of_the_release_is_under_one_policy() -> None:
    manifests = render(POLICY, monitor__history__url="postgresql://db/opsq")
    policies = [each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"]
    pods = [each for each in manifests if each["kind"] in ("Deployment", "Job", "Pod")]
    assert len(pods) >= 5
    for each in pods:
        labels = each["spec"].get("template", each)["metadata"]["labels"]
        assert sum(_fits(policy["podSelector"], labels) for policy in policies) == 1, container(each)["name"]
