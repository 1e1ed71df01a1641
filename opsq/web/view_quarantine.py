"""Messages that were set aside, with what is known against them. Records in, view records out; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

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
class AsideRow:
    """One message. task_href: its task's page, which tells the rest."""

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
    )
