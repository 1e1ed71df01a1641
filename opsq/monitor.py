"""``opsq monitor``: the watching process, put together from its parts.

Composition root: the only place that knows all of them. Order of start: history, fold, intake of events, depth
samples, pages; of stop: the opposite, so that what was received is still written. A broker that is away stops
nothing: the pages come up and say so, and the stream keeps trying.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from opsq import __version__, logs
from opsq.bootsteps import Bootstep, Graph, Provided
from opsq.broker.connection import open_connection
from opsq.cli.group_scaling import GroupScaling
from opsq.cli.hands import FleetHands
from opsq.clock import SystemClock
from opsq.errors import ConfigError, ExitCode, StartError, StopTimeout
from opsq.events.cluster import Cluster, Limits
from opsq.events.diagnosis.asking import Eyes, FleetAsker
from opsq.events.feed import Feed
from opsq.events.query import Query
from opsq.events.queues import DepthSampler
from opsq.events.steer import Steering
from opsq.events.store import Retention, Store
from opsq.events.stores import open_store
from opsq.events.stream import Stream, connector
from opsq.events.views import Views
from opsq.events.writer import Writer
from opsq.garbage import look_rarely
from opsq.masking import mask_url
from opsq.settings import Settings
from opsq.web.access.assemble import access
from opsq.web.audit import Trail
from opsq.web.deps import Deps
from opsq.web.mutes import Mutes
from opsq.web.security import LOOPBACK_NAMES
from opsq.web.server import Address, WebServer
from opsq.web.view_common import Places
from opsq.web.view_shell import Place

log = logging.getLogger("opsq.monitor")

STOP_TIMEOUT_S: Final = 3.0
GARBAGE_AFTER: Final = 100_000
"""A burst makes millions of short-lived objects, and no cycles: see ``garbage.py``."""
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class History:
    """The open store, under a type that steps can ask for."""

    store: Store


class HistoryStep(Bootstep[History]):
    """Opens the history."""

    name: ClassVar[str] = "history"
    requires: ClassVar[tuple[type[Any], ...]] = (Settings,)
    provides: ClassVar[type[Any] | None] = History

    def __init__(self) -> None:
        self._store: Store | None = None

    def start(self, up: Provided) -> History:
        """Open the store that ``monitor_store_url`` names. Raises ConfigError, StoreUnavailable."""
        self._store = open_store(up[Settings].resolved_store_url())
        return History(self._store)

    def stop(self, deadline: float) -> None:
        """Close it."""
        if self._store is not None:
            self._store.close()
            self._store = None


class FoldStep(Bootstep[Writer]):
    """Folds events into the cluster and writes what changed."""

    name: ClassVar[str] = "fold"
    requires: ClassVar[tuple[type[Any], ...]] = (Settings, History, Feed, Stream, Cluster)
    provides: ClassVar[type[Any] | None] = Writer

    def __init__(self) -> None:
        self._writer: Writer | None = None

    def start(self, up: Provided) -> Writer:
        """Start the writer's thread."""
        settings = up[Settings]
        keep_s = settings.monitor_retention_days * _DAY_S
        retention = Retention(
            keep_s or None,
            settings.monitor_retention_bytes or None,
            logs_s=settings.monitor_retention_log_days * _DAY_S or None,
            logs_bytes=settings.monitor_retention_log_bytes or None,
            decisions_s=settings.monitor_retention_decision_days * _DAY_S or None,
        )
        self._writer = Writer(up[Stream], up[Cluster], up[History].store, up[Feed], retention=retention)
        self._writer.start()
        return self._writer

    def stop(self, deadline: float) -> None:
        """Write what is left and stop."""
        if self._writer is not None and not self._writer.stop(left(deadline)):
            raise StopTimeout("the writer still writes history")


class ClusterStep(Bootstep[Cluster]):
    """Remembers the cluster, as far as history knows it."""

    name: ClassVar[str] = "cluster"
    requires: ClassVar[tuple[type[Any], ...]] = (Settings, History)
    provides: ClassVar[type[Any] | None] = Cluster

    def start(self, up: Provided) -> Cluster:
        """Restore it."""
        settings = up[Settings]
        limits = Limits(
            live_bytes=settings.monitor_live_tasks_bytes, offline_after_s=settings.monitor_worker_offline_after
        )
        return Cluster(up[History].store, limits)


class IntakeStep(Bootstep[None]):
    """Receives events; started after the fold and stopped before it, so that nothing received is left out."""

    name: ClassVar[str] = "intake"
    requires: ClassVar[tuple[type[Any], ...]] = (Stream, Writer)

    def __init__(self) -> None:
        self._stream: Stream | None = None

    def start(self, up: Provided) -> None:
        """Start the receiving thread."""
        self._stream = up[Stream]
        self._stream.start()

    def stop(self, deadline: float) -> None:
        """Stop receiving."""
        if self._stream is not None and not self._stream.stop(left(deadline)):
            raise StopTimeout("the event stream still waits for the broker")


class DepthStep(Bootstep[None]):
    """Samples how much waits in each queue."""

    name: ClassVar[str] = "depth"
    requires: ClassVar[tuple[type[Any], ...]] = (Settings, Cluster, Writer)

    def __init__(self) -> None:
        self._sampler: DepthSampler | None = None

    def start(self, up: Provided) -> None:
        """Start the sampling thread."""
        self._sampler = DepthSampler(up[Settings], up[Cluster], up[Writer].observe_depth)
        self._sampler.start()

    def stop(self, deadline: float) -> None:
        """Stop sampling."""
        if self._sampler is not None and not self._sampler.stop(left(deadline)):
            raise StopTimeout("the depth sampler still waits for the broker")


class SteeringStep(Bootstep[Steering]):
    """Attaches to the fleet and asks for what was missed."""

    name: ClassVar[str] = "steering"
    requires: ClassVar[tuple[type[Any], ...]] = (Settings, History, Cluster, Stream, Writer)
    provides: ClassVar[type[Any] | None] = Steering

    def __init__(self) -> None:
        self._steering: Steering | None = None

    def start(self, up: Provided) -> Steering:
        """Start asking."""
        self._steering = Steering(up[Settings], up[Stream], up[Cluster], up[History].store)
        self._steering.start()
        return self._steering

    def stop(self, deadline: float) -> None:
        """Ask no more."""
        if self._steering is not None and not self._steering.stop(left(deadline)):
            raise StopTimeout("an answer of a worker is still waited for")


class ScalingStep(Bootstep[GroupScaling]):
    """Scales groups of workers."""

    name: ClassVar[str] = "scaling"
    requires: ClassVar[tuple[type[Any], ...]] = (Settings, History, Cluster, Stream, Writer)
    provides: ClassVar[type[Any] | None] = GroupScaling

    def __init__(self) -> None:
        self._scaling: GroupScaling | None = None

    def start(self, up: Provided) -> GroupScaling:
        """Begin to decide. Raises: ConfigError."""
        self._scaling = GroupScaling(up[Settings], up[History].store, up[Cluster], up[Stream])
        self._scaling.start()
        return self._scaling

    def stop(self, deadline: float) -> None:
        """Let another monitor lead."""
        if self._scaling is not None and not self._scaling.stop(left(deadline)):
            raise StopTimeout("what is scaled still answers")


class PagesStep(Bootstep[WebServer]):
    """Serves pages, API and metrics."""

    name: ClassVar[str] = "pages"
    requires: ClassVar[tuple[type[Any], ...]] = (Settings, History, Cluster, Feed, Stream, Writer, Steering)
    provides: ClassVar[type[Any] | None] = WebServer

    def __init__(self) -> None:
        self._server: WebServer | None = None
        self._hands: FleetHands | None = None
        self._eyes: Eyes | None = None

    def start(self, up: Provided) -> WebServer:
        """Bind and serve. Raises ConfigError when the port is taken."""
        settings, writer = up[Settings], up[Writer]
        self._hands = FleetHands(settings)
        self._eyes = Eyes(FleetAsker(settings), settings.lease_seconds)
        feed = up[Feed]
        attacher = up[Steering].attacher
        query = Query(
            up[History].store,
            up[Cluster],
            feed=feed,
            stream=up[Stream].status,
            writer=lambda: writer.status,
            attach=lambda: attacher.status,
            folding=writer.alive,
        )
        prefix = "/" + settings.web_url_prefix.strip("/") if settings.web_url_prefix.strip("/") else ""
        door, gate = access(settings, prefix)
        trail = Trail(up[History].store, SystemClock())
        deps = Deps(
            query=query,
            views=Views(up[History].store, up[Cluster]),
            feed=feed,
            here=Place(env_name(settings), broker_name(settings), __version__),
            door=door,
            gate=gate,
            places=Places(prefix),
            allowed_hosts=LOOPBACK_NAMES | {settings.web_host.lower(), *settings.web_allowed_hosts},
            hands=self._hands,
            metrics_names=settings.web_metrics_names,
            trail=trail,
            mutes=Mutes(trail, SystemClock()),
            eyes=self._eyes,
        )
        self._server = WebServer(
            deps, Address(settings.web_host, settings.web_port, prefix, settings.web_trusted_proxies)
        )
        self._server.start()
        return self._server

    def stop(self, deadline: float) -> None:
        """End the open pages' streams and the server."""
        stopped = self._server is None or self._server.stop(left(deadline))
        if self._hands is not None:
            self._hands.close()
        if self._eyes is not None:
            self._eyes.close()
        if not stopped:
            raise StopTimeout("a page is still being served")


def left(deadline: float) -> float:
    """Seconds until a monotonic deadline."""
    return max(0.0, deadline - time.monotonic())


def env_name(settings: Settings) -> str:
    """Say in a word where this is: ``local`` for the embedded broker, else the broker's host."""
    if settings.monitor_cluster:
        return settings.monitor_cluster
    if settings.embedded():
        return "local"
    return broker_name(settings).split("://", 1)[-1].rpartition("@")[2].split("/")[0] or "broker"


def broker_name(settings: Settings) -> str:
    """Name the watched broker, without its password."""
    url = settings.resolved_broker_url("read")
    return mask_url(";".join(url) if not isinstance(url, str) else url)


def monitor_steps(*, web: bool, scaling: bool = False) -> list[Bootstep[Any]]:
    """List the parts of a monitor. scaling: it scales groups of workers."""
    steps: list[Bootstep[Any]] = [HistoryStep(), ClusterStep(), FoldStep(), IntakeStep(), DepthStep(), SteeringStep()]
    return [*steps, *([ScalingStep()] if scaling else ()), *([PagesStep()] if web else ())]


def build(settings: Settings, *, web: bool = True) -> Graph:
    """Put a monitor together without starting it."""
    connect = connector(
        lambda: open_connection(settings, purpose="read"),
        exchange=settings.event_exchange,
        prefix=settings.event_queue_prefix,
        message_ttl_s=settings.event_queue_ttl,
        expires_s=settings.event_queue_expires,
    )
    stream = Stream(connect, max_events=settings.monitor_queue_size)
    given = {Settings: settings, Feed: Feed(), Stream: stream}
    return Graph(monitor_steps(web=web, scaling=bool(settings.autoscale_groups)), given)


def run_monitor(
    clusters: Settings | Mapping[str, Settings], *, web: bool = True, stop: threading.Event | None = None
) -> int:
    """Watch each cluster until SIGTERM, SIGINT or ``stop``; returns the exit code.

    clusters: the settings of the only cluster, or of each by its name.
    Raises: ConfigError, StartError; nothing runs then.
    """
    if isinstance(clusters, Settings):
        clusters = {"": clusters}
    logs.setup(logs.config_from(next(iter(clusters.values())), worker="monitor"))
    stopping = stop or threading.Event()
    _on_signals((signal.SIGTERM, signal.SIGINT), stopping)
    running: list[Graph] = []
    try:
        for name, settings in clusters.items():
            graph = build(settings, web=web and settings.web_enabled)
            graph.start(unwind_timeout_s=STOP_TIMEOUT_S)
            running.append(graph)
            _say_where(name, graph)
        look_rarely(GARBAGE_AFTER)
        stopping.wait()
    except StartError as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from error
        raise
    finally:
        stopped = [_stop(graph) for graph in reversed(running)]
    return int(ExitCode.OK if all(stopped) else ExitCode.FAILURE)


def _say_where(name: str, graph: Graph) -> None:
    server = graph.provided.get(WebServer)
    if server is not None:
        log.info("the page%s is on %s", f" of {name}" if name else "", server.address.url)


def _stop(graph: Graph) -> bool:
    try:
        graph.stop(STOP_TIMEOUT_S)
    except StopTimeout as error:
        log.warning("%s", error)
        return False
    return True


def _on_signals(numbers: Iterable[signal.Signals], stopping: threading.Event) -> None:
    """Let signals end the monitor; outside the main thread that is somebody else's to do."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in numbers:
        signal.signal(number, lambda *_: stopping.set())
