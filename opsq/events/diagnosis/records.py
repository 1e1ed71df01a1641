"""A diagnosis: the sentence, what it rests on, every cause that was checked, and what would help.

Frozen records that say the same to pages, the command line and programs. Times ending in ``_at`` are epoch seconds,
those ending in ``_s`` lengths in seconds; what is not known is ``None``, or a verdict of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from opsq import words

YES: Final = "yes"
NO: Final = "no"
UNKNOWN: Final = "unknown"
ANSWERS: Final = (YES, UNKNOWN, NO)
"""What a check can find, in the order in which they are shown."""


class Ref(Struct, frozen=True):
    """Something that has a page of its own. kind: ``queue``, ``worker``, ``type`` or ``task``. text: as it is shown."""

    kind: str
    name: str
    text: str


Said = tuple[str | Ref, ...]
"""A sentence: words, and what they are about."""


def the_queue(name: str) -> Ref:
    """A queue, in a sentence."""
    return Ref("queue", name, name)


def the_worker(name: str) -> Ref:
    """A worker, in a sentence."""
    return Ref("worker", name, words.short_host(name))


def the_type(name: str) -> Ref:
    """A task type, in a sentence."""
    return Ref("type", name, words.short_name(name))


def the_task(id: str) -> Ref:
    """A task, in a sentence."""
    return Ref("task", id, words.short_id(id))


def plain(said: Said) -> str:
    """The sentence as text, with ordinary spaces."""
    return "".join(part if isinstance(part, str) else part.text for part in said).replace(words.NBSP, " ")


class Row(Struct, frozen=True, kw_only=True):
    """One task that stands in the way. for_s: how long it has run. usual_s: 95 % of its type's runs end within this."""

    worker: str
    task: str
    type: str | None = None
    for_s: float | None = None
    usual_s: float | None = None


class Proof(Struct, frozen=True):
    """One piece of evidence: what it shows, more about it, and tasks where it is about some.

    history: the task type whose last hour shows it, empty for none.
    """

    heading: str
    text: str = ""
    rows: tuple[Row, ...] = ()
    history: str = ""


class Finding(Struct, frozen=True):
    """What one check found. answer: ``yes``, ``no`` or ``unknown``. text: why this answer, in some words.

    said: the diagnosis, when it is the cause. lead: what happens next.
    """

    answer: str
    text: str
    said: Said = ()
    lead: Said = ()
    proofs: tuple[Proof, ...] = ()


class Verdict(Struct, frozen=True):
    """One cause that was checked. cause: its name in the table."""

    cause: str
    title: str
    found: Finding


class Effect(Struct, frozen=True):
    """One thing a remedy would change. strong: it is about this very task."""

    label: str
    text: str
    strong: bool = False


class Remedy(Struct, frozen=True, kw_only=True):
    """Something that would help, with its predicted effect; all figures are estimates.

    command: to be typed, empty where opsq has none. act, target, values: the same on the pages, by the table of acts.
    starts_in_s: when the task would start, None when that cannot be said.
    """

    title: str
    command: str = ""
    note: str = ""
    effects: tuple[Effect, ...] = ()
    act: str = ""
    target: str = ""
    values: Mapping[str, str] = {}
    starts_in_s: float | None = None


class Forecast(Struct, frozen=True, kw_only=True):
    """When the task starts if nobody does anything, estimated.

    place: its place in line, 1 is next; of: how long the line is. at_least: the place may be higher. basis: from what.
    """

    starts_in_s: float | None
    low_s: float | None = None
    high_s: float | None = None
    place: int | None = None
    of: int | None = None
    at_least: bool = False
    basis: str = ""


class Situation(Struct, frozen=True, kw_only=True):
    """What is asked about, and how it stands. waits: false when it ran, runs, or nothing holds it.

    cause: of the table, ``""`` when none of them holds. where: ``broker``, ``worker``, ``slot``, ``ended``, or
    ``unknown``.
    """

    task: str
    type: str | None
    queue: str | None
    worker: str | None
    state: str
    where: str
    waits: bool
    cause: str


class Diagnosis(Situation, frozen=True, kw_only=True):
    """Why one task, or the tasks of one queue, do not run. lacks: what could not be found out, and why."""

    sentence: Said
    lead: Said
    forecast: Forecast | None
    proofs: tuple[Proof, ...]
    checks: tuple[Verdict, ...]
    remedies: tuple[Remedy, ...]
    as_of: float
    lacks: tuple[str, ...] = ()
