"""Why a task does not run, as its page shows it: the sentence, the evidence under it, all causes, what helps. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.diagnosis.forecast import about
from opsq.events.diagnosis.records import (
    NO,
    UNKNOWN,
    YES,
    Diagnosis,
    Effect,
    Proof,
    Ref,
    Remedy,
    Row,
    Said,
    Verdict,
)
from opsq.events.records import Point
from opsq.web import words
from opsq.web.act_view import ActButton
from opsq.web.charts import Chart, logarithmic
from opsq.web.charts_data import SECONDS, Line
from opsq.web.view_charts import Finding, Frame, drawn
from opsq.web.view_common import Places
from opsq.web.view_task import TaskView

_MARKS: Final = {YES: ("hit", "failed"), UNKNOWN: ("open", "unknown"), NO: ("", "none")}
_SECTIONS: Final = {"queue": "queues", "worker": "workers", "type": "types", "task": "tasks"}
LEAST_SCALE_S: Final = 1.0
PACE: Final = (("p50", "half within", "running"), ("p95", "95 % within", "step"))
PACE_HEIGHT: Final = 76


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a sentence. href: where it leads, empty for words."""

    text: str
    href: str = ""


@dataclass(frozen=True, slots=True)
class ProofRow:
    """One task that stands in the way, with a bar against what is usual."""

    worker: Part
    name: str
    full_name: str
    href: str
    elapsed: str
    slow: bool
    percent: float
    usual_percent: float


@dataclass(frozen=True, slots=True)
class ProofView:
    """One piece of evidence. chart: the history that shows it."""

    heading: str
    text: str
    rows: tuple[ProofRow, ...]
    chart: Chart | None


@dataclass(frozen=True, slots=True)
class CheckView:
    """One cause that was checked."""

    css: str
    icon: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class RemedyView:
    """Something that would help. act: the button that does it, None where there is none."""

    title: str
    command: str
    note: str
    effects: tuple[Effect, ...]
    act: ActButton | None


@dataclass(frozen=True, slots=True)
class WhyView:
    """The page. head: what the top of the task's own page says. helps: how many things help, and how fast.

    lacks: what could not be found out.
    """

    id: str
    head: TaskView
    waits: bool
    sentence: tuple[Part, ...]
    lead: tuple[Part, ...]
    proofs: tuple[ProofView, ...]
    checks: tuple[CheckView, ...]
    remedies: tuple[RemedyView, ...]
    helps: tuple[str, str]
    lacks: tuple[str, ...]
    task_href: str


@dataclass(frozen=True, slots=True)
class WhyLine:
    """The sentence on the page of a task or a queue. href: of the whole diagnosis, empty where there is none."""

    sentence: tuple[Part, ...]
    href: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the page adds to a diagnosis. acts: a button, or none, for each remedy. histories: last hours by type."""

    head: TaskView
    acts: Sequence[ActButton | None]
    histories: Mapping[str, Sequence[Point]]
    now: float


def why_view(found: Diagnosis, told: Told, places: Places) -> WhyView:
    """Build the page."""
    return WhyView(
        id=found.task,
        head=told.head,
        waits=found.waits,
        sentence=parts(found.sentence, places),
        lead=parts(found.lead, places),
        proofs=tuple(_proof(each, told, places) for each in found.proofs),
        checks=tuple(_check(each) for each in found.checks),
        remedies=tuple(_remedy(each, act) for each, act in zip(found.remedies, told.acts, strict=True)),
        helps=_helps(found),
        lacks=found.lacks,
        task_href=places.task(found.task),
    )


def _helps(found: Diagnosis) -> tuple[str, str]:
    count = len(found.remedies)
    things = f"{words.plural(count, 'thing')} {'helps' if count == 1 else 'help'}" if count else ""
    starts = [each.starts_in_s for each in found.remedies if each.starts_in_s is not None]
    if found.forecast is None or found.forecast.starts_in_s is None or not starts:
        return things, ""
    when = "at once" if min(starts) < 1 else f"in about {words.duration(about(min(starts)))}"
    return things, f", the fastest starts it {when}"


def why_line_view(found: Diagnosis, href: str, places: Places) -> WhyLine:
    """Build the line."""
    return WhyLine(parts(found.sentence, places), href)


def parts(said: Said, places: Places) -> tuple[Part, ...]:
    """A sentence with its names as links."""
    return tuple(Part(each) if isinstance(each, str) else _link(each, places) for each in said if each)


def _link(ref: Ref, places: Places) -> Part:
    return Part(ref.text, places.page(_SECTIONS[ref.kind], ref.name))


def _proof(found: Proof, told: Told, places: Places) -> ProofView:
    points = told.histories.get(found.history, ())
    chart = _pace(points, words.short_name(found.history), told.now) if points else None
    return ProofView(found.heading, found.text, _rows(found.rows, places), chart)


def _pace(points: Sequence[Point], name: str, now: float) -> Chart:
    """Draw how long a type runs, on a log scale."""
    lines = [
        Line(key, label, css, [getattr(point.latency.get("run"), key, None) or None for point in points], SECONDS)
        for key, label, css in PACE
    ]
    newest = {line.key: next((value for value in reversed(line.values) if value), None) for line in lines}
    said = ", ".join(f"{line.label} {line.say(newest[line.key])}" for line in lines)
    frame = Frame("pace", name, "run time, log scale", PACE_HEIGHT, axis=True)
    scale = logarithmic([line.values for line in lines], PACE_HEIGHT)
    return drawn(frame, lines, points, now, scale, Finding(f"Run time of {name}, newest: {said}.", newest))


def _rows(rows: Sequence[Row], places: Places) -> tuple[ProofRow, ...]:
    """Rows on one scale, whose end is the longest of what runs and of what is usual."""
    scale_s = max([LEAST_SCALE_S, *(max(row.for_s or 0.0, row.usual_s or 0.0) for row in rows)])
    return tuple(_row(row, scale_s, places) for row in rows)


def _row(row: Row, scale_s: float, places: Places) -> ProofRow:
    return ProofRow(
        worker=Part(words.short_host(row.worker), places.page("workers", row.worker)),
        name=words.short_name(row.type) if row.type else words.short_id(row.task),
        full_name=f"{row.type or 'a task of unknown type'} {row.task}",
        href=places.task(row.task),
        elapsed=words.duration(row.for_s),
        slow=row.for_s is not None and row.usual_s is not None and row.for_s > row.usual_s,
        percent=round(100 * (row.for_s or 0.0) / scale_s, 1),
        usual_percent=round(100 * (row.usual_s or 0.0) / scale_s, 1),
    )


def _check(found: Verdict) -> CheckView:
    css, icon = _MARKS[found.found.answer]
    return CheckView(css, icon, found.title, found.found.text)


def _remedy(found: Remedy, act: ActButton | None) -> RemedyView:
    return RemedyView(found.title, found.command, found.note, found.effects, act)
