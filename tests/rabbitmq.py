"""A RabbitMQ of the test run's own: private folders, cookie, node name, ports and port mapper.

It boots in about ten seconds, so a run shares one (the fixture ``rabbitmq``); ``stop``, ``kill`` and
``start`` again keep ports and messages.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.servers import free_port, missing

BOOT_S = 180.0
STOP_S = 60.0
# Its tools start a runtime of their own, which takes a second of processor.
CONTROL_S = 240.0
# The wrapper in /usr/sbin insists on the system's own user and folders; this one does not.
PROGRAMS = Path("/usr/lib/rabbitmq/bin")
GREETING = b"AMQP\x00\x00\x09\x01"
# The runtime's schedulers spin while idle, which costs a machine of two cores a good part of one.
ERLANG = "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"


class RabbitServer:
    """One node. url: of its default virtual host; tls_url: the same over TLS, certified by ``certificate``."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("rabbitmq-server") is None or not PROGRAMS.is_dir():
            missing("rabbitmq-server", "apt-get install rabbitmq-server (scripts/install-servers does)")
        self._folder = folder
        self.port, self.tls_port, self._dist_port, self._epmd_port = (free_port() for _ in range(4))
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self.tls_url = f"amqps://guest:guest@localhost:{self.tls_port}//"
        self.certificate = folder / "certificate.pem"
        self._node = f"opsq{uuid4().hex[:8]}@localhost"
        self._process: subprocess.Popen[bytes] | None = None
        self._mapper: subprocess.Popen[bytes] | None = None
        self._write_configuration()

    def _write_configuration(self) -> None:
        key = self._folder / "key.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
                *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(self.certificate)),
            ],
            check=True,
            capture_output=True,
        )
        (self._folder / "enabled_plugins").write_text("[].\n")
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.certfile = {self.certificate}\nssl_options.keyfile = {key}\n"
            f"ssl_options.cacertfile = {self.certificate}\n"
            "disk_free_limit.absolute = 1MB\nlog.file.level = warning\n"
        )

    @property
    def environment(self) -> dict[str, str]:
        """What the server and its tools need to find this node."""
        return os.environ | {
            "HOME": str(self._folder),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it and return at once."""
        if self._mapper is None:
            # Started by the node itself it would outlive it as a daemon.
            self._mapper = self._run("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1")
        self._process = self._run(str(PROGRAMS / "rabbitmq-server"))

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> float:
        """Wait until it answers; return the monotonic time at which it did."""
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                pytest.fail(f"RabbitMQ ended while it started; see {self._folder}/log", pytrace=False)
            if self._answers():
                return time.monotonic()
            time.sleep(0.02)
        pytest.fail(f"RabbitMQ did not answer within {BOOT_S:g} s; see {self._folder}/log", pytrace=False)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as probe:
                probe.sendall(GREETING)
                return bool(probe.recv(1))
        except OSError:
            return False

    def stop(self) -> None:
        """End it in good order; durable queues and persistent messages stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop its clockwork: connections stay, and nothing answers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        os.killpg(process.pid, how)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on this node; return what it prints. Takes about a second."""
        command = [str(PROGRAMS / "rabbitmqctl"), "-q", "-n", self._node, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=CONTROL_S)
        if done.returncode:
            pytest.fail(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}", pytrace=False)
        return done.stdout

    def close(self) -> None:
        """End the node and its port mapper."""
        self.stop()
        mapper, self._mapper = self._mapper, None
        if mapper is not None:
            mapper.terminate()
            mapper.wait(STOP_S)


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[RabbitServer]:
    """A running RabbitMQ for the block."""
    server = RabbitServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()
