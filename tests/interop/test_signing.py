"""Signed messages between real Celery and opsq, both ways; what is forged runs on neither."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.certificates import Identity, make
from tests.interop.peers import POOLS, Place, python_of, spawn

#: Signatures are checked where messages arrive, before any pool; the quick suite does with one.
WAY = [*(("celery", "opsq", pool) for pool in POOLS), ("opsq", "celery", "prefork")]
ASK = """\
from signing_app import add, add_later, app
print(add.delay(2, 3).get(timeout=20))
print((add.s(1, 2) | add.s(4)).apply_async().get(timeout=20))
print(add.apply_async((5, 6), compression='gzip').get(timeout=20))
print(app.AsyncResult(add_later.delay(20, 1).get(timeout=20)).get(timeout=20))
"""
FORGE = "from signing_app import add; print(add.delay(666777666777, 0).id)"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    folder = tmp_path_factory.mktemp("keys")
    return {
        "client": make(folder, "client"),
        "worker": make(folder, "worker"),
        "stranger": make(folder, "stranger", trusted=False),
    }


def run(place: Place, library: str, program: str, settings: dict[str, object]) -> str:
    """Run a program of ``library``; what it printed."""
    done = subprocess.run(
        [python_of(library), "-c", program],
        cwd=place.folder,
        env=place.environment(library, settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(("client", "worker", "pool"), WAY)
def test_trusted_calls_run_and_strangers_do_not(
    place: Place, keys: dict[str, Identity], client: str, worker: str, pool: str
) -> None:
    trusted = keys["client"].settings()
    words = ("-A", "signing_app", "worker", "-P", pool, "-c", "2", "-l", "INFO", "-n", "signing@here")
    peer = spawn(place, worker, "worker", "-m", worker, *words, settings=keys["worker"].settings())
    try:
        peer.wait_for("ready")
        # First, so that they would have run before what follows.
        forgers = [keys["stranger"].settings(), {}, keys["client"].settings(security_digest="sha512")]
        with ThreadPoolExecutor() as threads:
            forged = threads.map(lambda settings: run(place, client, FORGE, settings).strip(), forgers)
            stranger, unsigned, other_digest = forged
        assert run(place, client, ASK, trusted).split() == ["5", "7", "11", "21"]
    finally:
        peer.stop()
    states = f"from signing_app import app; print([app.AsyncResult(id).state for id in {[stranger, other_digest]}])"
    assert run(place, client, states, trusted).strip() == "['PENDING', 'PENDING']"
    text = peer.text()
    assert "666777666777" not in text.replace("666777666777, 0", "")  # never a result; some log lines quote arguments
    if worker == "opsq":
        for why in ("is not in security_cert_store", "'application/json' is not accepted", "or digest than sha256"):
            assert why in text
        assert unsigned
    for identity in keys.values():
        secret = Path(identity.key).read_text().splitlines()[3]
        assert secret not in text


def test_remote_commands_are_signed_too(place: Place, keys: dict[str, Identity]) -> None:
    words = ("-A", "signing_app", "worker", "-P", "threads", "-c", "1", "-l", "DEBUG", "-n", "signing@here")
    peer = spawn(place, "opsq", "worker", "-m", "opsq", *words, settings=keys["worker"].settings())
    ping = "from signing_app import app; print(app.control.ping(timeout=2.0, limit=1, destination=['signing@here']))"
    try:
        peer.wait_for("ready")
        peer.wait_for("listening for remote commands")
        assert run(place, "celery", ping, keys["client"].settings()).strip() == "[{'signing@here': {'ok': 'pong'}}]"
        impatient = ping.replace("timeout=2.0", "timeout=0.5")
        assert run(place, "celery", impatient, keys["stranger"].settings()).strip() == "[]"
        peer.wait_for("is not in security_cert_store")
    finally:
        peer.stop()
