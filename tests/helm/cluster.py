"""As much of a Kubernetes API as Helm asks for in a dry run: which kinds there are, and what a Secret holds."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.helm.chart import Manifest

_PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}


def _plural(kind: str) -> str:
    return _PLURALS.get(kind, f"{kind.lower()}s")


def _answers(manifests: Iterable[Manifest], kept: Mapping[str, Manifest]) -> dict[str, Any]:
    """What each path answers: discovery of the kinds of ``manifests``, and the objects of ``kept`` by their path."""
    found: dict[str, Any] = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        **kept,
    }
    kinds: dict[str, set[str]] = {}
    for each in manifests:
        kinds.setdefault(each["apiVersion"], set()).add(each["kind"])
    groups = []
    for version, names in kinds.items():
        path = "/api/v1" if version == "v1" else f"/apis/{version}"
        resources = [
            {"name": _plural(kind), "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]}
            for kind in sorted(names)
        ]
        found[path] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        if version != "v1":
            told = {"groupVersion": version, "version": version.partition("/")[2]}
            groups.append({"name": version.partition("/")[0], "versions": [told], "preferredVersion": told})
    found["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    return found


def installed_release(values: Mapping[str, Any], chart: Mapping[str, Any]) -> dict[str, Manifest]:
    """What Helm itself keeps of a release ``shop`` in ``default`` that was installed with these values, by path."""
    release = {
        "name": "shop", "namespace": "default", "version": 1, "config": values, "manifest": "", "hooks": [],
        "info": {"status": "deployed", "first_deployed": "2026-01-01T00:00:00Z"},
        "chart": {"metadata": dict(chart), "templates": [], "values": {}},
    }  # fmt: skip
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    secret = {
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1", "data": {"release": packed},
        "metadata": {"name": "sh.helm.release.v1.shop.v1", "namespace": "default",
                     "labels": {"owner": "helm", "name": "shop", "status": "deployed", "version": "1"}},
    }  # fmt: skip
    return {"/api/v1/namespaces/default/secrets": {"kind": "SecretList", "apiVersion": "v1", "items": [secret]}}


@contextmanager
def cluster(folder: Path, manifests: Iterable[Manifest], kept: Mapping[str, Manifest] | None = None) -> Iterator[Path]:
    """A running one for the block; the path of its kubeconfig. kept: objects that are there, by their path."""
    answers = _answers(manifests, kept or {})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "not here"}
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(missing if answer is None else answer).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        named = {"cluster": "c", "user": "u"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": named}],
            "current-context": "x",
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        yield path
        server.shutdown()
        thread.join(5)
