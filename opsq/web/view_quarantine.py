"""Messages that were set aside, with what is known against them. Records in, view records out; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opsq.web import words
from opsq.web.hands import SetAside
from opsq.web.view_common import Head, Link, Places, row_id

HEADS: Final = (
    Head("Message"),
    Head("Why"),
    Head("Queue"),
    Head("Worker", "p2"),
    Head("Deaths", "num"),
    Head("Size", "num p2"),
    Head("Set aside", "num", "descending"),
)


@dataclass(frozen=True, slots=True)
class Died:
    """A process that died while it ran the message. text: how, where."""

    at: float | None
    text: str


@dataclass(frozen=True, slots=True)
class AsideRow:
    """One message. task_href: its task's page, which tells the rest. evidence: the deaths it is blamed for."""

    id: str
    short: str
    task: str
    task_href: str
    kind: str
    reason: str
    queue: str
    queue_href: str
    worker: str
    deaths: str
    size: str
    at: float
    acts: tuple[Link, ...]
    evidence: tuple[Died, ...]


@dataclass(frozen=True, slots=True)
class QuarantineView:
    """The page of the quarantine. unread: why it could not be looked into."""

    sentence: str
    crumbs: tuple[Link, ...]
    rows: tuple[AsideRow, ...]
    heads: tuple[Head, ...]
    unread: str


def quarantine_view(found: Sequence[SetAside] | None, unread: str, may_act: bool, places: Places) -> QuarantineView:
    """Build the page, the latest first. found: ``None`` when it could not be read. may_act: release and drop show."""
    rows = tuple(_row(one, may_act, places) for one in sorted(found or (), key=lambda one: -one.at))
    said = f"{words.plural(len(rows), 'message')} set aside" if rows else "No message is set aside"
    return QuarantineView(
        sentence="What is set aside is unknown" if found is None else said,
        crumbs=(Link("Queues", places.to("/queues")),),
        rows=rows,
        heads=HEADS,
        unread=unread,
    )


def _row(one: SetAside, may_act: bool, places: Places) -> AsideRow:
    acts = (
        Link("Release…", places.to("/act/quarantine-release", target=one.id)),
        Link("Delete…", places.to("/act/quarantine-drop", target=one.id)),
    )
    return AsideRow(
        id="z-" + row_id(one.id),
        short=words.short_id(one.id),
        task=one.task or words.UNKNOWN,
        task_href=places.task(one.id),
        kind=one.kind,
        reason=one.reason[:300],
        queue=one.queue or words.UNKNOWN,
        queue_href=places.page("queues", one.queue) if one.queue else "",
        worker=words.short_host(one.worker) if one.worker else words.UNKNOWN,
        deaths=words.count(one.deaths),
        size=words.size(one.size_bytes),
        at=one.at,
        acts=acts if may_act else (),
        evidence=tuple(_died(death) for death in one.details),
    )


def _died(death: Mapping[str, Any]) -> Died:
    at = death.get("at")
    signal, code = death.get("signal"), death.get("exit_code")
    ended = f"signal {signal}" if signal is not None else f"exit code {code}" if code is not None else ""
    where = words.short_host(str(death.get("worker") or death.get("host") or "")) or words.UNKNOWN
    parts = (str(death.get("how") or "")[:300], ended, f"pid {death['pid']}" if death.get("pid") else "", f"on {where}")
    return Died(float(at) if isinstance(at, int | float) else None, ", ".join(part for part in parts if part))
