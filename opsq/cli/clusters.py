"""Several brokers in one monitor: ``opsq monitor -b shop=redis://a -b mail=amqp://b``.

Each named cluster has a history, a fold and pages of its own, on ports that follow each other; nothing is shared but
the process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from opsq.errors import UsageError
from opsq.settings import Settings

_NAMED: Final = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,31})=(.+)", re.DOTALL)
#: Stands for the cluster's name in ``monitor_store_url``.
PLACE: Final = "{cluster}"


def named(brokers: str | Sequence[str] | None) -> dict[str, str]:
    """Broker URLs by the name before the ``=``; empty when none has a name.

    Raises: UsageError when only some have, or two have the same.
    """
    listed = [brokers] if isinstance(brokers, str) else list(brokers or ())
    found = [_NAMED.fullmatch(each) for each in listed]
    if not any(found):
        return {}
    if not all(found):
        raise UsageError("give every broker a name, such as -b shop=redis://… -b mail=amqp://…, or give only one")
    pairs = [(match[1], match[2]) for match in found if match is not None]
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise UsageError(f"each broker needs a name of its own, got {', '.join(names)}")
    return dict(pairs)


def settings_by_name(settings: Settings, brokers: Mapping[str, str]) -> dict[str, Settings]:
    """The settings of each cluster's monitor.

    Raises: UsageError when all would keep their history in one database.
    """
    store = settings.monitor_store_url
    if store is not None and PLACE not in store and len(brokers) > 1 and not store.startswith("memory"):
        raise UsageError(f"monitor_store_url must contain {PLACE}, or the clusters would share one history")
    return {
        name: settings.replace(
            broker_url=url,
            broker_read_url=None,
            broker_write_url=None,
            monitor_cluster=name,
            monitor_store_url=store.replace(PLACE, name) if store else _history(settings, name),
            web_port=settings.web_port + place if settings.web_port else 0,
        )
        for place, (name, url) in enumerate(brokers.items())
    }


def _history(settings: Settings, name: str) -> str:
    return "sqlite:///" + settings.data_path(f"history-{name}.db")
