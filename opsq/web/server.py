"""The web server in its thread: uvicorn on a socket that was bound first, so that a taken port is said at once."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from dataclasses import dataclass, replace
from typing import Final

import uvicorn

from opsq.errors import ConfigError, Fault, OpsqError
from opsq.web.app import create_app
from opsq.web.deps import Deps
from opsq.web.security import is_loopback

log = logging.getLogger("opsq.web")

GRACE_S: Final = 2
START_TIMEOUT_S: Final = 10.0
_BACKLOG: Final = 512


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. port: 0 takes any free one. prefix: path that a proxy puts before ours.

    proxies: addresses or networks whose word on the visitor's address and scheme is taken.
    """

    host: str
    port: int
    prefix: str = ""
    proxies: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The address as a browser takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.prefix}/"


def bind(address: Address, *, everybody: bool) -> socket.socket:
    """Bind a listening socket. everybody: nobody has to sign in, which is refused on anything but loopback.

    Raises ConfigError in one sentence when that is refused or the address cannot be had.
    """
    if everybody and not is_loopback(address.host):
        raise ConfigError(
            [
                Fault(
                    f"nobody has an account, so the pages are served on loopback only, not on {address.host}",
                    "web_host",
                    "make an account with `opsq users add NAME --role admin`, or set web_admin_password",
                )
            ]
        )
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host.strip("[]"), address.port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ConfigError([_refused(address, error)]) from error
    return sock


def _refused(address: Address, error: OSError) -> Fault:
    if error.errno == errno.EADDRINUSE:
        problem = f"port {address.port} on {address.host} is taken by another program"
        return Fault(problem, "web_port", "choose another with --port or web_port; 0 takes any free one")
    if error.errno == errno.EACCES:
        return Fault(f"port {address.port} needs rights this user has not", "web_port", "choose one from 1024 up")
    return Fault(f"cannot listen on {address.host}, port {address.port}: {error.strerror}", "web_host, web_port")


class WebServer:
    """Serves one application. Thread: ``start`` and ``stop`` from any; serving in its own, with its own loop."""

    def __init__(self, deps: Deps, address: Address) -> None:
        self._deps = deps
        self._asked = address
        self._thread: threading.Thread | None = None
        self._server: uvicorn.Server | None = None
        self._sock: socket.socket | None = None
        self._serving = threading.Event()
        self._error: BaseException | None = None
        self.address = address

    def start(self) -> None:
        """Bind, then serve; returns when requests are answered. Raises ConfigError or OpsqError."""
        self._sock = bind(self._asked, everybody=self._deps.door.open)
        self.address = replace(self._asked, port=int(self._sock.getsockname()[1]))
        config = uvicorn.Config(
            create_app(self._deps), log_config=None, access_log=False, log_level="warning", server_header=False,
            lifespan="off", proxy_headers=bool(self._asked.proxies), forwarded_allow_ips=list(self._asked.proxies),
            timeout_graceful_shutdown=GRACE_S, loop="asyncio", ws="none",
        )  # fmt: skip
        self._server = _Server(config, self._serving)
        self._thread = threading.Thread(target=self._main, name="opsq-web", daemon=True)
        self._thread.start()
        if not self._serving.wait(START_TIMEOUT_S) or self._error is not None:
            raise OpsqError(f"the web server did not start: {self._error or 'no answer in time'}")

    def _main(self) -> None:
        assert self._server is not None
        assert self._sock is not None
        try:
            asyncio.run(self._server.serve(sockets=[self._sock]))
        except BaseException as error:  # boundary: the thread's end must reach ``start`` and the log
            self._error = error
            log.exception("the web server ended")
        finally:
            self._serving.set()
            self._sock.close()

    def stop(self, timeout_s: float) -> bool:
        """End every stream, then the server; false when it still runs after ``timeout_s``. May be called twice."""
        self._deps.stopping.set()
        self._deps.feed.close()
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is None:
            return True
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()


class _Server(uvicorn.Server):
    """uvicorn that says when it answers."""

    def __init__(self, config: uvicorn.Config, serving: threading.Event) -> None:
        super().__init__(config)
        self._answering = serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start serving and say so."""
        await super().startup(sockets=sockets)
        self._answering.set()
