"""A local HTTP server that answers as the Kubernetes API does for scale sub-resources.

The shapes are those of ``kubectl get --raw`` against a 1.30 cluster: Scale, Status (conflict, forbidden, not found) and
a list of HorizontalPodAutoscalers.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SCALE = "/apis/apps/v1/namespaces/shop/deployments/worker/scale"
HPAS = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers"


class KubernetesApi:
    """One deployment ``shop/worker``. conflicts: so many patches meet a newer version first. requests: as they came."""

    def __init__(self) -> None:
        self.replicas, self.ready, self.version = 2, 2, 41
        self.conflicts = 0
        self.status: int | None = None
        self.annotations: dict[str, str] = {}
        self.hpas: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*api.get(self.path, dict(self.headers)))

            def do_PATCH(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(*api.patch(self.path, dict(self.headers), body))

            def _answer(self, status: int, document: Any) -> None:
                data = json.dumps(document).encode() if document is not None else b"no json"
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def get(self, path: str, headers: dict[str, str]) -> tuple[int, Any]:
        """Answer a GET."""
        self.requests.append(("GET", path, headers, None))
        if path == HPAS:
            document = {"kind": "HorizontalPodAutoscalerList", "apiVersion": "autoscaling/v2", "metadata": {}}
            return 200, {**document, "items": self.hpas}
        if self.status is not None:
            return self.status, status(self.status, "Forbidden", "deployments.apps is forbidden")
        if path != SCALE:
            return 404, status(404, "NotFound", f'deployments.apps "{path}" not found')
        return 200, self.scale()

    def patch(self, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        """Answer a PATCH; with the version of before somebody else's write it is a conflict."""
        self.requests.append(("PATCH", path, headers, body))
        if self.conflicts:
            self.conflicts -= 1
            self.version += 1
        if body["metadata"]["resourceVersion"] != str(self.version):
            said = 'Operation cannot be fulfilled on deployments.apps "worker": the object has been modified'
            return 409, status(409, "Conflict", said)
        self.replicas, self.version = body["spec"]["replicas"], self.version + 1
        return 200, self.scale()

    def scale(self) -> dict[str, Any]:
        """The Scale object as it is."""
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {
                "name": "worker",
                "namespace": "shop",
                "uid": "6bb6ab8d-7f5b-4b53-a2a5-0a76bb9d3c71",
                "resourceVersion": str(self.version),
                "creationTimestamp": "2026-11-01T08:00:00Z",
                "annotations": self.annotations,
            },
            "spec": {"replicas": self.replicas},
            "status": {"replicas": self.ready, "selector": "app=worker"},
        }


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    """A Status object, as errors are answered."""
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "details": {"name": "worker", "group": "apps", "kind": "deployments"}, "code": code,
    }  # fmt: skip


def hpa(name: str, target: str, kind: str = "Deployment") -> dict[str, Any]:
    """An autoscaler of Kubernetes' own."""
    reference = {"kind": kind, "name": target, "apiVersion": "apps/v1"}
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 9, "metrics": []},
        "status": {"currentReplicas": 2, "desiredReplicas": 2, "currentMetrics": None, "conditions": []},
    }
