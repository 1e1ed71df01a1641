"""The monitor's scaling of groups of workers, put together from its parts."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from opsq.autoscale.configured import rule_of
from opsq.autoscale.controller import Controller, scalings
from opsq.autoscale.gauge import gauge_reader
from opsq.autoscale.groups import ORIGIN, Group, groups_of, limits_for, shared_queues
from opsq.autoscale.kubernetes import Access, KubernetesTarget, in_cluster
from opsq.autoscale.targets import FleetTarget, NoTarget, Target
from opsq.cli.hands import FleetHands
from opsq.clock import SystemClock
from opsq.errors import ConfigError, Fault
from opsq.events.cluster import Cluster
from opsq.events.query import Query
from opsq.events.store import Store
from opsq.events.stream import Stream
from opsq.events.views import Views
from opsq.settings import Settings


class GroupScaling:
    """The controller with what it needs. Thread: ``start`` and ``stop`` from any. Raises: ConfigError."""

    def __init__(self, settings: Settings, store: Store, cluster: Cluster, stream: Stream) -> None:
        groups = groups_of(settings)
        shared = shared_queues(groups)
        if shared:
            problem = f"several groups name {', '.join(shared)}; each would scale for all of it"
            raise ConfigError([Fault(problem, ORIGIN, "give every queue to one group")])
        self._settings, self._hands = settings, FleetHands(settings)
        self._closing: list[KubernetesTarget] = []
        self._gauges = gauge_reader(settings)
        query = Query(store, cluster)
        self._controller = Controller(
            scalings(groups, lambda group: limits_for(group, settings), self._target),
            rule_of(settings),
            Views(store, cluster),
            query.workers,
            store,
            stream.insert,
            f"monitor-{os.getpid()}@{socket.gethostname()}",
            SystemClock(),
            every_s=settings.autoscale_interval,
            dry=settings.autoscale_mode == "dry",
            gauge=lambda: None if self._gauges is None else self._gauges.read(),
        )

    def start(self) -> None:
        """Begin to decide."""
        if self._gauges is not None:
            self._gauges.start()
        self._controller.start()

    def stop(self, timeout_s: float) -> bool:
        """Decide no more; false when a target still answers."""
        ended = self._controller.stop(timeout_s)
        if self._gauges is not None:
            self._gauges.stop(0.1)
        for target in self._closing:
            target.close()
        self._hands.close()
        return ended

    def _target(self, group: Group) -> Target:
        if group.target == "fleet":
            return FleetTarget(self._order)
        if group.target == "kubernetes":
            made = KubernetesTarget(group.scales, group.slots_per_replica, self._access())
            self._closing.append(made)
            return made
        return NoTarget()

    def _access(self) -> Access:
        url = self._settings.autoscale_kubernetes_url
        if url is None:
            return in_cluster()
        return Access(url, self._settings.autoscale_kubernetes_token or "", "", "default")

    def _order(
        self, command: str, arguments: Mapping[str, Any], nodes: Sequence[str], expected: int
    ) -> Mapping[str, Any]:
        return self._hands.order(command, arguments, nodes, expected).by_node
