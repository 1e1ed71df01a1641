"""What a broker cannot do, one sentence each, to be said when a worker or monitor starts."""

from __future__ import annotations

from contextlib import suppress

from opsq.broker.connection import BrokerConnection
from opsq.errors import OpsqError

NO_EVENTS = (
    "it cannot send one message to several readers: events, and with them the monitor's view of this worker, "
    "remote control (inspect, revoke, shutdown) and rpc:// results do not work on it; tasks, retries, canvas, "
    "beat and results in a store do"
)
NO_LEASES = "it forgets what a worker holds: the tasks that a killed worker had taken are lost"
ONE_PROCESS = "it lives in one process: only threads of this process can send to this worker, and all ends with it"
UNKNOWN = (
    "it is used through kombu as it is, untested with opsq: whether the tasks of a killed worker come back, and "
    "whether events and remote control work, is up to that transport"
)


def notices(connection: BrokerConnection) -> list[str]:
    """Return what is to be known about the broker in use, none for those that can do everything.

    Thread: the connection's owner. It must be connected.
    """
    features = connection.broker.features
    said = []
    if not connection.tested:
        said.append(UNKNOWN)
    elif not features.cross_process:
        said.append(ONE_PROCESS)
    else:
        if not (features.fanout and features.topics):
            said.append(NO_EVENTS)
        if not features.keeps_unsettled:
            said.append(NO_LEASES)
    own = getattr(connection.kombu.transport, "notices", None)
    if own is not None:
        with suppress(OpsqError):  # not worth a failed start: whoever uses the connection next finds out
            said += own()
    return [f"broker {connection.sanitised_url}: {each}" for each in said]
