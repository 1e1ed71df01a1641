"""A node of one machine: runs the container of a rendered Deployment as it stands, and does to it what a kubelet does.

Command, arguments, environment, probes, hooks and grace period are those of the manifest. What differs: folders of the
machine stand for volumes, an address of 127.0.0.0/8 for the pod's, and this checkout for the image. As root on Linux
everything but the volumes is mounted read-only, as the manifest asks; the user stays root's.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helm.chart import ROOT, Manifest, container

IMAGE = Path(__file__).parent / "image"
_VARIABLE = re.compile(r"\$\((\w+)\)")
#: The last change of folder makes the process stand in the writable mount, not in the one below it.
_SEAL = """\
set -e
mount --make-rprivate /
mount --bind /tmp /tmp
mount --bind "$0" "$0"
mount -o remount,bind,ro /
cd "$PWD"
exec "$@"
"""


def sealed(folder: Path) -> list[str]:
    """Words before a command that leave it only ``folder`` and /tmp to write to; none where that cannot be had."""
    words = ["unshare", "--mount", "bash", "-c", _SEAL, str(folder)]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return []
    tried = subprocess.run([*words, "true"], capture_output=True, check=False)
    return words if tried.returncode == 0 else []


@dataclass(slots=True)
class Node:
    """Where pods run. folder: of their volumes and logs; more: variables that the image or its platform gives."""

    manifests: list[Manifest]
    folder: Path
    more: Mapping[str, str] = field(default_factory=dict)
    net: int = field(default_factory=lambda: os.getpid() % 200 + 20)
    pods: list[Pod] = field(default_factory=list)
    seal: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.seal = sealed(self.folder)

    def secret(self, name: str, key: str) -> str:
        """What a Secret of the chart holds."""
        data = next(e["data"] for e in self.manifests if e["kind"] == "Secret" and e["metadata"]["name"] == name)
        return base64.b64decode(data[key]).decode()

    def start(self, manifest: Manifest) -> Pod:
        """Start a pod of this object."""
        pod = Pod(self, manifest, f"127.{self.net}.0.{len(self.pods) + 10}")
        self.pods.append(pod)
        pod.start()
        return pod

    def close(self) -> None:
        """Kill what is left."""
        for pod in self.pods:
            pod.kill()


class Pod:
    """One container. Thread: one, beside the kubelet's own of ``watch``."""

    def __init__(self, node: Node, manifest: Manifest, ip: str) -> None:
        self.node, self.ip = node, ip
        self.name = f"{manifest['metadata']['name']}-{len(node.pods)}"
        self.spec = manifest["spec"].get("template", manifest)["spec"]
        self.container = container(manifest)
        self.folder = node.folder / self.name
        self.log = node.folder / f"{self.name}.log"
        self.restarts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._volumes = {mount["mountPath"]: self._volume(mount["name"]) for mount in self.container["volumeMounts"]}
        self.environment = self._environment()

    def start(self) -> None:
        """Start the container."""
        words = [self._here(word) for word in (*self.container["command"], *self.container.get("args", ()))]
        if self.container["securityContext"]["readOnlyRootFilesystem"]:
            words = [*self.node.seal, *words]
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                words, cwd=self.folder, env=self.environment, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL
            )

    def run(self, within_s: float = 90.0) -> str:
        """Wait for a container that ends by itself; what it said. Raises: AssertionError when it fails."""
        assert self.process is not None
        code = self.process.wait(within_s)
        assert code == 0, self.log.read_text()
        return self.log.read_text()

    def ask(self, kind: str) -> bool:
        """Do one probe: "liveness", "readiness" or "startup"."""
        probe = self.container[f"{kind}Probe"]
        http = probe["httpGet"]
        port = next(each["containerPort"] for each in self.container["ports"] if each["name"] == http["port"])
        try:
            with urllib.request.urlopen(f"http://{self.ip}:{port}{http['path']}", timeout=5) as answer:
                return bool(200 <= answer.status < 400)
        except urllib.error.HTTPError as refused:
            refused.close()
            return False
        except OSError:
            return False

    def until(self, kind: str, within_s: float = 60.0) -> Pod:
        """Wait until a probe succeeds. Raises: AssertionError with the log."""
        self.wait(lambda: self.ask(kind), f"{kind} of {self.name}", within_s)
        return self

    def wait(self, met: Callable[[], Any], what: str, within_s: float = 60.0) -> None:
        """Wait for anything, as long as the container runs."""
        assert self.process is not None
        deadline, pause = time.monotonic() + within_s, threading.Event()
        while not met():
            assert self.process.poll() is None, f"{self.name} ended: {self.log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"never: {what}\n{self.log.read_text()[-3000:]}"
            pause.wait(0.05)

    def watch(self, stop: threading.Event, every_s: float | None = None) -> threading.Thread:
        """Probe for liveness until ``stop``, and restart the container after as many failures as the probe says."""
        thread = threading.Thread(target=self._watch, args=(stop, every_s), daemon=True)
        thread.start()
        return thread

    def _watch(self, stop: threading.Event, every_s: float | None) -> None:
        probe, failed = self.container["livenessProbe"], 0
        assert self.process is not None
        while not stop.wait(every_s or probe["periodSeconds"]):
            failed = 0 if self.ask("liveness") else failed + 1
            if self.process.poll() is not None or failed >= probe["failureThreshold"]:
                self.restarts += 1
                failed = 0
                self.kill()
                self.start()

    def delete(self) -> dict[str, float | bool]:
        """End the pod in Kubernetes' order: preStop, SIGTERM, what is left of the grace period, SIGKILL.

        Returns how long it took and whether it had to be killed. It has left the endpoints before: nothing asks it.
        """
        assert self.process is not None
        begun, grace_s = time.monotonic(), self.spec["terminationGracePeriodSeconds"]
        hook = self.container["lifecycle"]["preStop"]["exec"]["command"]
        words = [self._here(word) for word in hook]
        hooked = subprocess.Popen(words, env=self.environment, stdin=subprocess.DEVNULL)
        while hooked.poll() is None and self.process.poll() is None and time.monotonic() - begun < grace_s:
            threading.Event().wait(0.02)
        drained_s = time.monotonic() - begun
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        killed = False
        try:
            self.process.wait(max(2.0, grace_s - drained_s))
        except subprocess.TimeoutExpired:
            killed = True
            self.kill()
        hooked.kill()
        hooked.wait()
        return {"seconds": round(time.monotonic() - begun, 2), "drained_s": round(drained_s, 2), "killed": killed}

    def kill(self) -> None:
        """End it at once, as the kernel does when memory runs out."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)

    def _volume(self, name: str) -> Path:
        """A folder for a volume; that of a Secret holds its keys."""
        told = next(each for each in self.spec["volumes"] if each["name"] == name)
        claim = told.get("persistentVolumeClaim", {}).get("claimName")
        folder = self.node.folder / f"claim-{claim}" if claim else self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for item in told.get("secret", {}).get("items", ()):
            path = folder / item["path"]
            path.write_text(self.node.secret(told["secret"]["secretName"], item["key"]))
            path.chmod(told["secret"]["defaultMode"])
        return folder

    def _here(self, text: str) -> str:
        """Put the folders of this machine in the place of mounted ones."""
        for mounted, folder in self._volumes.items():
            if mounted != "/tmp":  # a text may name a folder of ours below it
                text = text.replace(mounted, str(folder))
        return text

    def _environment(self) -> dict[str, str]:
        binaries = Path(sys.executable).parent
        found = {"PATH": f"{binaries}:{os.environ['PATH']}", "HOME": str(self.folder), "HOSTNAME": self.name,
                 "PYTHONPATH": f"{ROOT}:{IMAGE}", "TMPDIR": str(self._volumes["/tmp"]), **self.node.more}  # fmt: skip
        for each in self.container.get("env", ()):
            found[each["name"]] = self._here(self._value(each, found))
        return found

    def _value(self, told: Mapping[str, Any], before: Mapping[str, str]) -> str:
        """The value of one variable; ``$(NAME)`` is one that stands before it, as in Kubernetes."""
        source = told.get("valueFrom", {})
        if "secretKeyRef" in source:
            return self.node.secret(source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])
        if "fieldRef" in source:
            return {"status.podIP": self.ip, "metadata.name": self.name}[source["fieldRef"]["fieldPath"]]
        return _VARIABLE.sub(lambda found: before.get(found[1], found[0]), told["value"])
