"""Replicas of a deployment, through the scale sub-resource of the Kubernetes API.

Read, then patch with the version that was read: who changes it in between wins, and we look again. A target that an
HorizontalPodAutoscaler also scales is refused, and one that is paused by annotation is left alone.
Source: Kubernetes API reference, ``autoscaling/v1`` Scale and ``autoscaling/v2`` HorizontalPodAutoscaler.
"""

from __future__ import annotations

import os.path
from pathlib import Path
from typing import Any, Final

import msgspec

from opsq import plugins
from opsq.autoscale.fleet_sight import Served
from opsq.autoscale.targets import CannotScale, Size
from opsq.errors import ConfigError, Fault

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER: Final = "https://kubernetes.default.svc"
PAUSED: Final = ("opsq.dev/paused", "autoscaling.keda.sh/paused")
KINDS: Final = {"deployment": "deployments", "statefulset": "statefulsets", "replicaset": "replicasets"}
ANSWER_S: Final = 5.0
#: Somebody else may write in between; more often than this in a row is no chance.
TRIES: Final = 3
CONFLICT, FORBIDDEN, NOT_FOUND, UNAUTHORIZED = 409, 403, 404, 401
REMEDIES: Final = {
    UNAUTHORIZED: "the service account's token is not accepted",
    FORBIDDEN: "the service account may not; allow get and patch on its scale sub-resource",
    NOT_FOUND: "there is no such thing",
}


class Access(msgspec.Struct, frozen=True):
    """How to reach the API. token: a file, read anew each time because it is renewed. ca: a file, or empty."""

    server: str = SERVER
    token: str = ""
    ca: str = ""
    namespace: str = "default"


def in_cluster(folder: Path = ACCOUNT, server: str = SERVER) -> Access:
    """The access that a pod has. Raises: ConfigError outside of a cluster."""
    namespace = folder / "namespace"
    if not (folder / "token").is_file() or not namespace.is_file():
        raise ConfigError(
            [Fault(f"no service account in {folder}", "autoscale_groups", "run the monitor in the cluster it scales")]
        )
    ca = folder / "ca.crt"
    return Access(server, str(folder / "token"), str(ca) if ca.is_file() else "", namespace.read_text().strip())


class Scaled(msgspec.Struct, frozen=True):
    """What the scale sub-resource said: replicas wanted, replicas there, its version, and whether it is paused."""

    wanted: int
    there: int
    version: str
    paused: bool


class KubernetesTarget:
    """One deployment or stateful set. scales: ``[NAMESPACE/]KIND/NAME``. Thread: one at a time."""

    def __init__(self, scales: str, unit: int, access: Access) -> None:
        httpx: Any = plugins.require("httpx", "the Kubernetes target of autoscale_groups")
        self._httpx = httpx
        self._unit, self._access = unit, access
        self.namespace, kind, self.name = _parsed(scales, access.namespace)
        self._kind = kind
        self._path = f"/apis/apps/v1/namespaces/{self.namespace}/{KINDS[kind]}/{self.name}/scale"
        verify: Any = access.ca if access.ca and os.path.isfile(access.ca) else True
        self._client = httpx.Client(base_url=access.server, timeout=ANSWER_S, verify=verify)

    def size(self, seen: Served) -> Size:
        """Slots of the replicas that were asked for; those not there yet are starting. Raises: CannotScale."""
        found = self._read()
        return Size(found.wanted * self._unit, max(0, found.wanted - found.there) * self._unit)

    def resize(self, slots: int, seen: Served) -> None:
        """Ask for as many replicas as hold ``slots``. Raises: CannotScale when it is paused, refused or contested."""
        replicas = -(-slots // self._unit)
        self._refuse_beside_hpa()
        for _ in range(TRIES):
            found = self._read()
            if found.paused:
                raise CannotScale(f"{self._kind}/{self.name} is paused by annotation")
            if found.wanted == replicas:
                return
            body = {"metadata": {"resourceVersion": found.version}, "spec": {"replicas": replicas}}
            answer = self._send("PATCH", self._path, body)
            if answer.status_code != CONFLICT:
                self._checked(answer)
                return
        raise CannotScale(f"{self._kind}/{self.name} is changed by somebody else all the time")

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _read(self) -> Scaled:
        document = self._checked(self._send("GET", self._path))
        try:
            metadata = document["metadata"]
            notes = metadata.get("annotations") or {}
            return Scaled(
                wanted=int(document["spec"].get("replicas", 0)), there=int(document["status"].get("replicas", 0)),
                version=str(metadata["resourceVersion"]),
                paused=any(str(notes.get(name, "")).lower() == "true" for name in PAUSED),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CannotScale(f"the API answered no scale of {self._kind}/{self.name}: {error!r}") from error

    def _refuse_beside_hpa(self) -> None:
        """Two that scale one thing fight. Where listing is not allowed, nothing can be known."""
        answer = self._send("GET", f"/apis/autoscaling/v2/namespaces/{self.namespace}/horizontalpodautoscalers")
        if answer.status_code != 200:
            return
        for one in _items(answer):
            reference = one.get("spec", {}).get("scaleTargetRef", {})
            if reference.get("name") == self.name and str(reference.get("kind", "")).lower() == self._kind:
                name = one.get("metadata", {}).get("name", "?")
                raise CannotScale(
                    f"the HorizontalPodAutoscaler {name} scales {self._kind}/{self.name} too; remove it, or use "
                    "target none and let it read opsq's metrics"
                )

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Accept": "application/json"}
        if self._access.token:
            headers["Authorization"] = f"Bearer {Path(self._access.token).read_text().strip()}"
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        try:
            return self._client.request(
                method, path, headers=headers, content=None if body is None else msgspec.json.encode(body)
            )
        except (self._httpx.HTTPError, OSError) as error:
            raise CannotScale(f"the Kubernetes API does not answer: {error!r}") from error

    def _checked(self, answer: Any) -> Any:
        status = int(answer.status_code)
        if status >= 300:
            why = REMEDIES.get(status) or _message(answer)
            raise CannotScale(f"{self._kind}/{self.name} in {self.namespace}: {status}, {why}")
        try:
            return answer.json()
        except ValueError as error:
            raise CannotScale(f"the Kubernetes API answered no JSON: {error}") from error


def _parsed(scales: str, namespace: str) -> tuple[str, str, str]:
    parts = scales.split("/")
    if len(parts) == 2:
        parts = [namespace, *parts]
    kind = parts[1].lower() if len(parts) == 3 else ""
    if kind not in KINDS or not all(parts):
        known = ", ".join(KINDS)
        problem = f"expected [NAMESPACE/]KIND/NAME with one of {known}, got {scales!r}"
        raise ConfigError([Fault(problem, "autoscale_groups")])
    return parts[0], kind, parts[2]


def _items(answer: Any) -> list[dict[str, Any]]:
    try:
        document = answer.json()
    except ValueError:
        return []
    items = document.get("items") if isinstance(document, dict) else None
    return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []


def _message(answer: Any) -> str:
    try:
        document = answer.json()
    except ValueError:
        return "no reason was given"
    return str(document.get("message", "no reason was given")) if isinstance(document, dict) else "no reason was given"
