"""Every command of docs/deploying.md is run, in order, in one scratch folder.

What this machine cannot have (a cluster, a container engine, root's files, the package index) is answered by stand-ins
that write down what they were asked; that is then held against the chart, the compose file and the units.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.cli.test_history_commands import filled
from tests.helm.chart import ROOT, container, helm, invalid, one, render
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
_STAND_IN = '#!/bin/bash\nprintf "%s\\n" "${0##*/} $*" >>"$ASKED"\n'
#: What runs in a pod runs here, on a folder that stands for the volume; a manifest is kept, to be looked at.
_KUBECTL = """#!/bin/bash
printf "%s\\n" "kubectl ${*//$'\\n'/ }" >>"$ASKED"
case "$1" in
    get) printf cGFzc3dvcmQ= ;;
    apply) cat >"$APPLIED" ;;
    exec)
        while [ "$1" != -- ]; do shift; done
        shift
        words=("${@//\\/var\\/lib\\/opsq/$VOLUME}")
        exec "${words[@]//\\/tmp\\/history/$VOLUME/copy-of-history}" ;;
esac
"""
#: As another user of a machine on which opsq is installed under /srv.
_RUNUSER = """#!/bin/bash
shift 3
words=("${@//\\/srv\\/opsq\\/.venv\\/bin\\//}")
exec "${words[@]//\\/var\\/lib\\/opsq/$VOLUME}"
"""
#: Installing, upgrading and testing become rendering: all that Helm does before it speaks to a cluster.
_HELM = """#!/bin/bash
printf "%s\\n" "helm $*" >>"$ASKED"
case "$1 $2" in
    "install shop"|"upgrade shop") shift 2; args=() ;;
    "upgrade --install") shift 3; args=() ;;
    *) exit 0 ;;
esac
for word in "$@"; do [ "$word" = --reset-then-reuse-values ] && args+=(--values "$MINIMAL") || args+=("$word"); done
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
        "kubectl": _KUBECTL,
        "runuser": _RUNUSER,
        "python": f'#!/bin/bash\nexec {sys.executable} "$@"\n',
        "helm": _HELM.format(helm=helm()),
        "opsq": _OPSQ.format(python=sys.executable),
    }
    (folder / "volume").mkdir()
    for name, text in programs.items():
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPSQ_")}
    minimal = str(folder / "tests/helm/values/minimal.yaml")
    return kept | {"PATH": f"{bin}:{os.environ['PATH']}", "ASKED": str(folder / "asked"), "MINIMAL": minimal,
                   "APPLIED": str(folder / "applied.yaml"), "VOLUME": str(folder / "volume"),
                   "PYTHONPATH": str(ROOT)}  # fmt: skip


def _run(script: str, folder: Path, environment: dict[str, str]) -> str:
    """Run some lines of the page; what they said. Raises: AssertionError when one of them fails."""
    words = ["bash", "-c", "set -euo pipefail\n" + script]
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_command_runs(tmp_path: Path, history: str) -> None:
    _programs("promtool")
    environment = _scratch(tmp_path) | {"HISTORY": history}
    subprocess.run([sys.executable, "-m", "opsq", "migrate", "--store", history], env=environment, check=True)
    blocks = _BLOCK.findall(DOCS.read_text())
    assert len(blocks) >= 12
    filled(f"sqlite:///{tmp_path}/volume/history.db")
    for block in blocks:
        _run(block, tmp_path, environment)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert {line.split()[0] for line in asked} == {*STAND_INS, "helm"}
    _held_against_what_is_there(asked, tmp_path)
    users = json.loads((tmp_path / "volume" / "users.json").read_text())
    assert list(users["users"]) == ["ann"]


def _programs(*more: str) -> None:
    for program in ("sqlite3", "pg_dump", "pg_restore", *more):
        shutil.which(program) or missing(program, "apt-get install sqlite3 postgresql-client prometheus")


def _blocks_about(*words: str) -> list[str]:
    """The only block with each of these words."""
    found = [[block for block in _BLOCK.findall(DOCS.read_text()) if word in block] for word in words]
    assert [len(blocks) for blocks in found] == [1] * len(words)
    return [blocks[0] for blocks in found]


def _emptied_file(url: str) -> None:
    for path in Path(url.removeprefix("sqlite:///")).parent.glob("history.db*"):
        path.write_bytes(b"")


def _emptied_database(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


@pytest.mark.parametrize(
    ("place", "there", "back", "spoil"),
    [
        ("sqlite:///{folder}/.opsq/history.db", "sqlite3 .opsq/history.db", "cp history-backup.db", _emptied_file),
        ("sqlite:///{folder}/volume/history.db", "kubectl exec deployment/", "kubectl apply", _emptied_file),
        ("{history}", "pg_dump", "pg_restore", _emptied_database),
    ],
    ids=["file", "volume", "postgresql"],
)
def test_what_was_backed_up_comes_back(
    place: str, there: str, back: str, spoil: Callable[[str], None], tmp_path: Path, history: str
) -> None:
    _programs()
    environment = _scratch(tmp_path) | {"HISTORY": history}
    (tmp_path / ".opsq").mkdir()
    url = filled(place.format(folder=tmp_path, history=history))
    saving, restoring = _blocks_about(there, back)
    _run(saving, tmp_path, environment)
    spoil(url)
    _run(restoring, tmp_path, environment)
    told = json.loads(_run(f"opsq tasks --store {url} --json", tmp_path, environment))
    assert sorted(task["id"] for task in told["tasks"]) == ["a1", "b2", "c3"]


def test_the_restoring_pod_is_one_that_finds_the_volume(tmp_path: Path) -> None:
    environment = _scratch(tmp_path)
    (restoring,) = _blocks_about("kubectl apply")
    (tmp_path / "history-backup.db").write_bytes(b"")
    _run(restoring, tmp_path, environment)
    pod = yaml.safe_load((tmp_path / "applied.yaml").read_text())
    assert invalid([pod]) == []
    installed = render(tmp_path / "tests/helm/values/minimal.yaml")
    claim = pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
    monitor = one(installed, "Deployment", "-monitor")
    assert claim == one(installed, "PersistentVolumeClaim", "-monitor")["metadata"]["name"]
    assert container(pod)["volumeMounts"][0]["mountPath"] == container(monitor)["volumeMounts"][0]["mountPath"]
    user = monitor["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert pod["spec"]["securityContext"]["runAsUser"] == user


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
            case ["kubectl", "port-forward" | "exec" | "scale", target, *_] if "/" in target:
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
