"""Results in Redis over TLS and behind sentinels; the whole contract on both with INTEROP=full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq.core.backends.registry import open_backend
from opsq.errors import BackendUnavailable
from opsq.settings import Settings
from opsq.testing.contract_backend import BackendContract, Store, eventually, opened, put, reads, unique
from tests.certificates import Identity, make
from tests.sentinel import NAME, watched
from tests.servers import RedisServer, free_port, redis_server

long_suite = pytest.mark.skipif(os.environ.get("INTEROP") != "full", reason="runs in make interop")


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture(scope="module")
def tls(identity: Identity, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A Redis that wants to see a certificate of ours."""
    port = free_port()
    files = ("--tls-cert-file", str(identity.certificate), "--tls-key-file", str(identity.key))
    words = ("--tls-port", str(port), *files, "--tls-ca-cert-file", str(identity.certificate))
    shown = {
        "ssl_cert_reqs": "CERT_REQUIRED",  # Celery's word
        "ssl_ca_certs": str(identity.certificate),
        "ssl_certfile": str(identity.certificate),
        "ssl_keyfile": str(identity.key),
        "ssl_check_hostname": False,
    }
    with redis_server(tmp_path_factory.mktemp("redis-tls"), *words, "--tls-auth-clients", "yes"):
        yield {"result_backend": f"rediss://127.0.0.1:{port}/0", "redis_backend_use_ssl": shown}


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, Any]]:
    with watched(tmp_path_factory.mktemp("sentinel")) as (server, sentinel):
        yield server, sentinel


@pytest.fixture(scope="module")
def sentinels(primary: tuple[RedisServer, Any]) -> Store:
    """Results behind the sentinel; a second one of the list is away."""
    url = f"sentinel://127.0.0.1:{free_port()}/0;sentinel://127.0.0.1:{primary[1].port}/0"
    return {"result_backend": url, "result_backend_transport_options": {"master_name": NAME}}


def test_results_travel_over_tls(tls: Store) -> None:
    for backend in opened(tls):
        id = unique()
        with backend.subscribe([id]) as news:
            assert put(backend, id, "SUCCESS", 1)
            assert news.wait(30.0) == {id}
        assert reads(backend, id, "SUCCESS", 1)


def test_a_certificate_of_somebody_else_is_refused(tls: Store, tmp_path: Path) -> None:
    stranger = make(tmp_path, "localhost")
    shown = {**tls["redis_backend_use_ssl"], "ssl_ca_certs": str(stranger.certificate)}
    backend = open_backend(tls["result_backend"], Settings(redis_backend_use_ssl=shown))
    with pytest.raises(BackendUnavailable, match="certificate verify failed"):
        backend.get("task", "a")
    backend.close()


def test_the_words_of_a_tls_url_are_celerys_or_redis_own(tls: Store, identity: Identity) -> None:
    files = f"ssl_ca_certs={identity.certificate}&ssl_certfile={identity.certificate}&ssl_keyfile={identity.key}"
    for checks in ("CERT_NONE", "none"):
        for backend in opened({"result_backend": f"{tls['result_backend']}?ssl_cert_reqs={checks}&{files}"}):
            assert backend.get("task", "a") is None


def test_parts_of_a_chord_without_order(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The kind of key that Celery's ``result_chord_ordered`` means."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        options = {"result_chord_ordered": False}
        backend: Any = open_backend(server.url, Settings(result_backend_transport_options=options))
        backend.chord_open("g", 2, 60.0)
        assert not backend.chord_part("g", "b", 1, b"late", "t", 5.0, 60.0)
        assert not backend.chord_part("g", "b", 1, b"late", "t", 5.0, 60.0)
        assert backend.chord_part("g", "a", 0, b"early", "t", 5.0, 60.0)
        assert backend.chord_parts("g") == [b"late", b"early"]
        assert backend.chord_is_open("g")
        backend.chord_close("g", "t", 5.0)
        assert not backend.chord_is_open("g")
        backend.close()


@long_suite
class TestTls(BackendContract):
    """The contract over TLS."""

    @pytest.fixture
    def store(self, tls: Store) -> Store:
        """The module's."""
        return tls


@long_suite
class TestSentinels(BackendContract):
    """The contract behind sentinels."""

    @pytest.fixture
    def store(self, sentinels: Store) -> Store:
        """The module's."""
        return sentinels


@long_suite
def test_results_follow_the_sentinel(sentinels: Store, primary: tuple[RedisServer, Any]) -> None:
    """A waiter that waits while the primary dies is told what the next one gets."""
    server, sentinel = primary
    assert eventually(sentinel.knows_a_replica, 60.0)
    settings, id = Settings(**sentinels), unique()
    backend, writer = (open_backend(sentinels["result_backend"], settings) for _ in range(2))
    with backend.subscribe([id]) as news:
        server.kill()
        assert eventually(lambda: sentinel.primary() != server.port, 60.0)
        assert eventually(lambda: stored(writer, id), 60.0)
        assert eventually(lambda: id in (news.wait(1.0) or ()), 60.0)
    assert reads(backend, id, "SUCCESS", 1)
    backend.close()
    writer.close()


def stored(backend: Any, id: str) -> bool:
    """Store, where the primary of the moment lets us."""
    try:
        put(backend, id, "SUCCESS", 1)
    except BackendUnavailable:
        return False
    return True
