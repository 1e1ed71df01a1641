"""Redis over TLS: checked against our own authority, refused against any other, and a clear word about it."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsq.broker.connection import BrokerConnection
from opsq.broker.publisher import Publisher
from opsq.broker.retry import NO_RETRY
from opsq.broker.topology import queue_named
from opsq.errors import BrokerUnavailable
from opsq.testing.broker_reader import Reader, message, unique
from tests.certificates import Identity, make
from tests.servers import free_port, missing, wait_for_port


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture(scope="module")
def port(identity: Identity, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis that speaks nothing but TLS, and wants to see a certificate of ours."""
    folder = tmp_path_factory.mktemp("redis-tls")
    number = free_port()
    words = ["--port", "0", "--tls-port", str(number), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    words += ["--tls-cert-file", str(identity.certificate), "--tls-key-file", str(identity.key)]
    words += ["--tls-ca-cert-file", str(identity.certificate), "--tls-auth-clients", "yes"]
    try:
        process = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        missing("redis-server", "apt-get install redis-server")
    with process:
        wait_for_port(number, process)
        yield number
        process.terminate()


def options(identity: Identity, **more: object) -> dict[str, object]:
    return {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_ca_certs": str(identity.certificate),
        "ssl_certfile": str(identity.certificate),
        "ssl_keyfile": str(identity.key),
        "ssl_check_hostname": False,  # it is made for a name, and asked for by an address
        **more,
    }


def test_messages_travel_over_tls_with_certificates_on_both_sides(port: int, identity: Identity) -> None:
    def connect() -> BrokerConnection:
        return BrokerConnection(f"rediss://127.0.0.1:{port}/0", use_ssl=options(identity))

    publisher = Publisher(connect)
    spec = queue_named(unique("tls"))
    bodies = [str(number).encode() for number in range(50)] + [b"x" * 500_000]
    publisher.publish_many([message(spec, body) for body in bodies])
    reader = Reader(connect(), spec)
    got = reader.take(len(bodies))
    reader.settle(*got)
    assert [each.body for each in got] == bodies
    reader.stop()
    publisher.close()


def test_a_server_of_another_authority_is_refused(port: int, identity: Identity, tmp_path: Path) -> None:
    stranger = make(tmp_path, "stranger")
    use_ssl = options(identity, ssl_ca_certs=str(stranger.certificate))
    publisher = Publisher(
        lambda: BrokerConnection(f"rediss://127.0.0.1:{port}/0", use_ssl=use_ssl), NO_RETRY, deadline_s=5
    )
    with pytest.raises(BrokerUnavailable, match=r"rediss://127\.0\.0\.1.*certificate"):
        publisher.publish(message(queue_named(unique("tls"))))
    publisher.close()


def test_plain_text_to_a_tls_port_is_refused(port: int) -> None:
    connection = BrokerConnection(f"redis://127.0.0.1:{port}/0", connect_timeout_s=1)
    with pytest.raises(BrokerUnavailable, match=rf"redis://127\.0\.0\.1:{port}"):
        connection.connect()
