"""Every command of docs/deploying.md is run, in order, in one scratch folder.

What this machine cannot have (a cluster, a container engine, root's files, the package index) is answered by stand-ins
that write down what they were asked; that is then held against the chart, the compose file and the units.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import ROOT, helm, render
from tests.servers import missing
from tests.servers_sql import history_server, new_database

DOCS = ROOT / "docs" / "deploying.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
#: What stands in for a program that cannot do its work here, and why.
STAND_INS = {
    "pip": "the package index has no opsq yet",
    "docker": "no container engine can run here",
    "kubectl": "there is no cluster",
    "systemctl": "systemd does not run here",
    "useradd": "tests add nobody to the machine",
    "install": "tests write nothing into /etc",
}
_STAND_IN = (
    '#!/bin/bash\nprintf "%s\\n" "${0##*/} $*" >>"$ASKED"\n[ "${0##*/}" = kubectl ] && printf cGFzc3dvcmQ=\nexit 0\n'
)
#: Installing, upgrading and testing become rendering: all that Helm does before it speaks to a cluster.
_HELM = """#!/bin/bash
printf "%s\\n" "helm $*" >>"$ASKED"
case "$1 $2" in
    "install shop"|"upgrade shop") shift 2; args=() ;;
    "upgrade --install") shift 3; args=() ;;
    *) exit 0 ;;
esac
for word in "$@"; do [ "$word" = --reuse-values ] && args+=(--values "$MINIMAL") || args+=("$word"); done
exec {helm} template shop "${{args[@]}}" >/dev/null
"""
#: What does not end by itself gets its Ctrl-C.
_OPSQ = """#!/bin/bash
[ "$1" = up ] || exec {python} -m opsq "$@"
timeout --signal INT 8 {python} -m opsq "$@"
[ $? -eq 124 ]
"""


@pytest.fixture
def history() -> Iterator[str]:
    """A PostgreSQL history."""
    with history_server() as server:
        yield new_database(server)


def _scratch(folder: Path) -> dict[str, str]:
    """A project of a user with stand-ins before the PATH; its environment."""
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    shutil.copytree(ROOT / "tests" / "helm" / "values", folder / "tests" / "helm" / "values")
    (folder / "shop.py").write_text('from opsq import Opsq\n\napp = Opsq("shop")\n')
    bin = folder / "bin"
    bin.mkdir()
    programs = {
        **dict.fromkeys(STAND_INS, _STAND_IN),
        "helm": _HELM.format(helm=helm()),
        "opsq": _OPSQ.format(python=sys.executable),
    }
    for name, text in programs.items():
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPSQ_")}
    minimal = str(folder / "tests/helm/values/minimal.yaml")
    return kept | {"PATH": f"{bin}:{os.environ['PATH']}", "ASKED": str(folder / "asked"), "MINIMAL": minimal,
                   "PYTHONPATH": str(ROOT)}  # fmt: skip


def test_every_command_runs(tmp_path: Path, history: str) -> None:
    for program in ("sqlite3", "pg_dump", "pg_restore", "promtool"):
        shutil.which(program) or missing(program, "apt-get install sqlite3 postgresql-client prometheus")
    environment = _scratch(tmp_path) | {"HISTORY": history}
    subprocess.run([sys.executable, "-m", "opsq", "migrate", "--store", history], env=environment, check=True)
    blocks = _BLOCK.findall(DOCS.read_text())
    assert len(blocks) >= 12
    for block in blocks:
        script = "set -euo pipefail\n" + block
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert {line.split()[0] for line in asked} == {*STAND_INS, "helm"}
    _held_against_what_is_there(asked, tmp_path)


def _held_against_what_is_there(asked: list[str], folder: Path) -> None:
    """Objects, files and services that stand-ins were asked for exist."""
    objects = {
        (each["kind"].lower(), each["metadata"]["name"]) for each in render(folder / "tests/helm/values/minimal.yaml")
    }
    services = yaml.safe_load((folder / "deploy/compose.yaml").read_text())["services"]
    for words in map(str.split, asked):
        match words:
            case ["kubectl", "get", "secret", name, *_]:
                assert ("secret", name) in objects
            case ["kubectl", "port-forward", target, *_]:
                assert tuple(target.split("/")) in objects
            case ["docker", "compose", "--file", path, "up", *rest]:
                assert (folder / path).exists()
                assert all(word.partition("=")[0] in services for word in rest if "=" in word)
            case ["docker", "build", "--file", path, *_]:
                assert (folder / path).exists()
            case ["systemctl", "enable", "--now", *units]:
                for unit in units:
                    assert (
                        folder / "deploy/systemd" / f"{unit.partition('@')[0]}{'@' * ('@' in unit)}.service"
                    ).exists()
