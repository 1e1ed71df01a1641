"""What the pages need from the process they run in, handed over once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from opsq.clock import Clock, SystemClock
from opsq.events.diagnosis.asking import Looking
from opsq.events.feed import Feed
from opsq.events.query import Query
from opsq.events.views import Views
from opsq.web.access.door import Door
from opsq.web.access.gate import Gate
from opsq.web.audit import Trail
from opsq.web.hands import Hands
from opsq.web.memo import Memo
from opsq.web.mutes import Mutes
from opsq.web.view_common import Places
from opsq.web.view_shell import Place


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything ``create_app`` asks for.

    query, views: the monitor's read side. door: knows accounts. gate: lets requests through. here: what the shell
    says about this monitor. places: writes URLs below the prefix. allowed_hosts: names a Host header may carry, empty
    for any. stopping: set when the server goes down, so that streams end. memo: reads shared between viewers. hands:
    acts on the fleet, none for a monitor that only watches. trail: the audit. mutes: errors that were muted.
    metrics_names: whose metric names are told beside our own. eyes: asks workers why a task waits.
    """

    query: Query
    views: Views
    feed: Feed
    here: Place
    door: Door
    gate: Gate
    places: Places = field(default_factory=Places)
    allowed_hosts: frozenset[str] = frozenset()
    clock: Clock = field(default_factory=SystemClock)
    stopping: threading.Event = field(default_factory=threading.Event)
    memo: Memo = field(default_factory=Memo)
    hands: Hands | None = None
    trail: Trail | None = None
    mutes: Mutes | None = None
    metrics_names: tuple[str, ...] = ("flower", "celery")
    eyes: Looking | None = None
