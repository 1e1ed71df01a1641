"""What KEDA and an HPA are shown: the page's examples and the API's objects against their published schemas."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import yaml

from opsq.web.metrics import SERIES
from opsq.web.routes import ROUTES
from opsq.web.scaling_handlers import ApiDesired
from tests.helm.chart import ROOT, Manifest, invalid
from tests.unit.autoscale.kubernetes_api import SCALE, KubernetesApi, hpa

DOCS = ROOT / "docs" / "autoscale.md"
EXAMPLES: list[Manifest] = [
    yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
]


schemas_wanted = pytest.mark.skipif(
    os.environ.get("HELM") != "full", reason="part of `make helm` (HELM=full), which fetches KEDA's schemas"
)


def example(kind: str) -> Any:
    return next(one for one in EXAMPLES if one["kind"] == kind)


@schemas_wanted
def test_the_examples_are_what_kubernetes_and_keda_accept() -> None:
    assert {one["kind"] for one in EXAMPLES} == {"ScaledObject", "HorizontalPodAutoscaler"}
    assert invalid(EXAMPLES) == []


@schemas_wanted
@pytest.mark.parametrize("kind", ["ScaledObject", "HorizontalPodAutoscaler"])
def test_a_wrong_field_would_be_seen(kind: str) -> None:
    wrong = msgspec.json.decode(msgspec.json.encode(example(kind)))
    wrong["spec"]["scaleTargetRef"] = {"name": 4}
    assert invalid([wrong])


def test_kedas_trigger_finds_its_number_in_the_answer() -> None:
    (trigger,) = example("ScaledObject")["spec"]["triggers"]
    told = trigger["metadata"]
    assert all(isinstance(value, str) for value in told.values())  # KEDA's metadata is a map of strings
    url = urlsplit(told["url"])
    assert url.path in {route.path for route in ROUTES}
    assert list(parse_qs(url.query)) == ["group"]
    fields = {field.name: field.type for field in msgspec.structs.fields(ApiDesired)}
    assert fields[told["valueLocation"]] is int


def test_the_hpas_metric_is_a_series_with_that_label() -> None:
    (metric,) = example("HorizontalPodAutoscaler")["spec"]["metrics"]
    asked = metric["external"]["metric"]
    (series,) = [one for one in SERIES if one.name == asked["name"]]
    assert set(asked["selector"]["matchLabels"]) <= set(series.labels)


def test_the_api_that_the_tests_speak_to_has_the_shapes_of_kubernetes() -> None:
    server = KubernetesApi()
    try:
        scale = server.get(SCALE, {})[1]
    finally:
        server.close()
    autoscaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", **hpa("shop", "worker")}
    assert invalid([scale, autoscaler]) == []


def test_a_scale_down_waits_a_minute_at_most_on_top() -> None:
    keda = example("ScaledObject")["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
    for behavior in (keda["behavior"], example("HorizontalPodAutoscaler")["spec"]["behavior"]):
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] <= 60
