"""What is deployed without a cluster: units, the image's build steps, compose. Run as far as this machine can."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cli.runner import wait_for
from tests.helm.chart import ROOT
from tests.servers import missing, redis_server

DEPLOY = ROOT / "deploy"
IMAGE = Path(__file__).parent / "image"
#: What the log of each command says when it has started.
READY = {"worker": "ready", "beat": "beat", "monitor": "http://"}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def _instance(unit: Path, folder: Path) -> Path:
    """A copy of a unit under the name of an instance, with the programs of this checkout."""
    copy = folder / unit.name.replace("@.", "@default.")
    copy.write_text(unit.read_text().replace("/srv/opsq/.venv/bin", str(Path(sys.executable).parent)))
    return copy


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze") or missing("systemd-analyze", "apt-get install systemd")
    copies = [str(_instance(unit, tmp_path)) for unit in UNITS]
    done = subprocess.run([program, "verify", "--man=no", *copies], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_confined(unit: Path, tmp_path: Path) -> None:
    """By systemd's own measure, of 10; a bare unit of one user has above 8."""
    program = shutil.which("systemd-analyze") or missing("systemd-analyze", "apt-get install systemd")
    words = [program, "security", "--offline=yes", "--threshold=50", str(_instance(unit, tmp_path))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def _starts_and_stops(words: list[str], given: dict[str, str], folder: Path) -> None:
    """Run a command until it is ready, end it by SIGTERM, and expect exit code 0."""
    with redis_server(folder) as server:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{IMAGE}", **given,
            "OPSQ_APP": "shop", "OPSQ_BROKER_URL": server.url, "OPSQ_DATA_DIR": str(folder / "data"),
            "LEDGER": str(folder / "ledger"),
        }  # fmt: skip
        log = folder / "log"
        with log.open("w") as sink:
            process = subprocess.Popen(words, cwd=folder, env=environment, stdout=sink, stderr=sink, text=True)
        ready = next(text for name, text in READY.items() if name in words)
        wait_for(log, ready, process)
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_and_stops_as_written(unit: Path, tmp_path: Path) -> None:
    text = _instance(unit, tmp_path).read_text()
    command = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert command is not None
    words = shlex.split(command[1].replace("%i", "default").replace("%%", "%").replace("$ARGS", ""))
    given = dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.MULTILINE))
    _starts_and_stops(words, given | {"OPSQ_WEB_PORT": "0"}, tmp_path)


@pytest.mark.parametrize("name", ["worker", "beat", "monitor"])
def test_a_service_of_compose_starts_and_stops_as_written(name: str, tmp_path: Path) -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"][name]
    ports = {"--health-port=8081": "--health-port=0", "--port=5555": "--port=0"}
    words = [ports.get(word, word.replace("/run/opsq", str(tmp_path))) for word in service["command"]]
    given = {key: value for key, value in service["environment"].items() if "$" not in value}
    given["OPSQ_WEB_ADMIN_PASSWORD"] = "correct horse battery"
    _starts_and_stops(["opsq", *words], given, tmp_path)


def _instructions(stage: str) -> Iterator[tuple[str, str]]:
    """The instructions of one stage of the Dockerfile, continued lines put together."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    inside = False
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            inside = rest.endswith(f" AS {stage}")
        elif inside and word.isupper():
            yield word, rest


def test_the_images_build_steps_make_an_opsq_that_runs(tmp_path: Path) -> None:
    target, source = tmp_path / "opt" / "opsq", tmp_path / "src"
    source.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPSQ_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for word, rest in _instructions("build"):
        if word == "ARG":
            environment.setdefault(*rest.split("=", 1))
        elif word == "COPY":
            *names, place = rest.split()
            for name in names:
                _copied(ROOT / name, source / place, source / place / Path(name).name)
        elif word == "RUN":
            done = subprocess.run(
                ["bash", "-ec", rest.replace("/opt/opsq", str(target))],
                cwd=source,
                env=environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr[-3000:]
    said = subprocess.run(
        [target / "bin" / "opsq", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "0." in said.stdout


def _copied(source: Path, folder: Path, file: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, file)


def test_the_image_is_not_root_and_speaks_to_its_process() -> None:
    told = dict(_instructions("runtime"))
    assert told["USER"] == "10001:10001"
    assert told["ENTRYPOINT"] == '["opsq"]'
    assert "OPSQ_WORKER_HEALTH_HOST=0.0.0.0" in told["ENV"]


def test_prometheus_takes_the_scrape_configuration_of_compose(tmp_path: Path) -> None:
    promtool = shutil.which("promtool") or missing("promtool", "apt-get install prometheus")
    text = (DEPLOY / "compose" / "prometheus.yml").read_text().replace("/run/secrets", str(tmp_path))
    (tmp_path / "admin-password").write_text("x")
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(DEPLOY / "prometheus" / "rules.yaml", tmp_path)
    done = subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
