"""deploy/compose.yaml through the parser of the Compose specification, which `docker compose` itself uses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import ROOT
from tests.servers import missing

FILLED = "POSTGRES_PASSWORD=one\nOPSQ_WEB_ADMIN_PASSWORD=two\nOPSQ_WEB_SECRET_KEY=three\n"
OPSQ = ("worker", "beat", "monitor")


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    """A copy of deploy/ with passwords in its .env."""
    copy = tmp_path / "deploy"
    shutil.copytree(ROOT / "deploy", copy)
    (copy / ".env").write_text(FILLED)
    return copy


def _read(deploy: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Read the file as in its folder, where a fresh shell has none of its variables."""
    built = ROOT / ".servers" / "compose" / "compose"
    reader = str(built) if built.exists() else missing("the reader of compose files", "scripts/install-compose")
    environment = {"PATH": os.environ["PATH"], "HOME": str(deploy), **more}
    return subprocess.run([reader, "compose.yaml"], cwd=deploy, env=environment, capture_output=True, text=True)


def _project(deploy: Path, **more: str) -> Any:
    done = _read(deploy, **more)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def _changed(deploy: Path, old: str, new: str) -> str:
    """What the parser says to a file in which this was written."""
    path = deploy / "compose.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    done = _read(deploy)
    assert done.returncode != 0
    return done.stderr


def test_compose_takes_the_file_and_mounts_what_is_there(deploy: Path) -> None:
    project = _project(deploy)
    assert set(project["services"]) == {*OPSQ, "redis", "postgres", "prometheus", "grafana"}
    mounts = [mount for service in project["services"].values() for mount in service.get("volumes", ())]
    assert len(mounts) > 6
    for mount in mounts:
        there = Path(mount["source"]).exists() if mount["type"] == "bind" else mount["source"] in project["volumes"]
        assert there, mount
    build = project["services"]["worker"]["build"]
    assert (Path(build["context"]) / build["dockerfile"]).exists()
    assert f"AS {build['target']}\n" in (deploy / "docker" / "Dockerfile").read_text()


def test_opsqs_containers_are_confined_and_given_time_to_end(deploy: Path) -> None:
    services = _project(deploy)["services"]
    for name in OPSQ:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["environment"]["OPSQ_BROKER_CONNECTION_MAX_RETRIES"] == "none"
    told = dict(word.split("=") for word in services["worker"]["command"] if "=" in word)
    assert services["worker"]["stop_grace_period"] == "1m0s"
    assert int(told["--shutdown-timeout"]) < 60
    published = [port["host_ip"] for service in services.values() for port in service.get("ports", ())]
    assert set(published) == {"127.0.0.1"}


def test_rabbitmq_is_what_the_example_has_behind_its_marks(deploy: Path) -> None:
    lines = (deploy / "compose.env.example").read_text().splitlines()
    marked = [line.removeprefix("# ") for line in lines if line.startswith("# ") and "=" in line]
    (deploy / ".env").write_text(FILLED + "\n".join(marked))
    services = _project(deploy)["services"]
    assert "rabbitmq" in services
    told = [services[name]["environment"] for name in OPSQ]
    assert {each["OPSQ_BROKER_URL"] for each in told} == {"amqp://guest:guest@rabbitmq:5672//"}
    assert {each["OPSQ_RESULT_BACKEND"] for each in told} == {"disabled"}


@pytest.mark.parametrize("name", [line.partition("=")[0] for line in FILLED.splitlines()])
def test_a_password_that_is_not_written_is_asked_for_by_its_name(name: str, deploy: Path) -> None:
    (deploy / ".env").write_text("".join(line + "\n" for line in FILLED.splitlines() if not line.startswith(name)))
    done = _read(deploy)
    assert done.returncode != 0
    assert f"required variable {name} is missing a value: write it into deploy/.env" in done.stderr


def test_the_example_names_every_variable_that_is_required(deploy: Path) -> None:
    shutil.copy(deploy / "compose.env.example", deploy / ".env")
    example = (deploy / ".env").read_text().splitlines()
    assert {line.partition("=")[0] for line in FILLED.splitlines()} <= {line.partition("=")[0] for line in example}
    assert "write it into deploy/.env" in _read(deploy).stderr


def test_a_key_that_compose_does_not_know_would_be_seen(deploy: Path) -> None:
    assert "stop_grace_perod" in _changed(deploy, "stop_grace_period", "stop_grace_perod")


def test_a_service_that_is_not_there_would_be_seen(deploy: Path) -> None:
    assert "undefined service" in _changed(deploy, "depends_on: [worker]", "depends_on: [workers]")
