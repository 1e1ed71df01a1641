"""The store contract in processes of its own: Django has one set of settings, Cassandra's client imports eventlet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers_cassandra import cassandra_server

HERE = Path(__file__).resolve().parent
LONG = os.environ.get("INTEROP") == "full"
LIMIT_S = 240


def run(cases: str, *words: str, **environ: str) -> None:
    """Run the cases of a file; what they say is what a failure says."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, str(HERE / cases)],
        cwd=HERE.parents[1],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{cases}:\n{done.stdout[-6000:]}{done.stderr[-2000:]}", pytrace=False)


@pytest.mark.parametrize("zones", ["yes", pytest.param("no", marks=pytest.mark.skipif(not LONG, reason="interop"))])
def test_django(zones: str) -> None:
    run("django_result_cases.py", DJANGO_WITH_ZONES=zones)


@pytest.mark.skipif(not LONG, reason="runs in make interop")
def test_cassandra(tmp_path: Path) -> None:
    with cassandra_server(tmp_path) as server:
        run("cassandra_result_cases.py", "-W", "ignore", CASSANDRA_PORT=str(server.port))
