"""A diagnosis for programs: the JSON of ``opsq why --json`` and of ``/api/v1/tasks/{id}/why``. Sentences are text."""

from __future__ import annotations

from msgspec import Struct

from opsq import words
from opsq.events.diagnosis.records import Diagnosis, Effect, Forecast, Proof, Remedy, Situation, Verdict, plain


class CheckedCause(Struct, frozen=True, kw_only=True):
    """One cause. answer: ``yes``, ``no`` or ``unknown``. text: why."""

    cause: str
    title: str
    answer: str
    text: str


class Explained(Situation, frozen=True, kw_only=True):
    """Why a task, or what waits in a queue, does not run.

    lead: the next sentence: its place, when it starts, what happens. lacks: what could not be found out. All figures
    of forecast and remedies are estimates.
    """

    sentence: str
    lead: str
    forecast: Forecast | None
    evidence: tuple[Proof, ...]
    checks: tuple[CheckedCause, ...]
    remedies: tuple[Remedy, ...]
    as_of: float
    lacks: tuple[str, ...]


def explained(found: Diagnosis) -> Explained:
    """The diagnosis with its sentences as text."""
    return Explained(
        task=found.task,
        type=found.type,
        queue=found.queue,
        worker=found.worker,
        state=found.state,
        where=found.where,
        waits=found.waits,
        cause=found.cause,
        sentence=plain(found.sentence),
        lead=plain(found.lead).strip(),
        forecast=found.forecast,
        evidence=tuple(Proof(_bare(each.heading), _bare(each.text), each.rows, each.history) for each in found.proofs),
        checks=tuple(_checked(each) for each in found.checks),
        remedies=tuple(_remedy(each) for each in found.remedies),
        as_of=found.as_of,
        lacks=found.lacks,
    )


def _checked(found: Verdict) -> CheckedCause:
    return CheckedCause(cause=found.cause, title=found.title, answer=found.found.answer, text=_bare(found.found.text))


def _remedy(found: Remedy) -> Remedy:
    return Remedy(
        title=_bare(found.title), command=found.command, note=found.note, act=found.act, target=found.target,
        values=found.values,
        effects=tuple(Effect(each.label, _bare(each.text), each.strong) for each in found.effects),
        starts_in_s=found.starts_in_s,
    )  # fmt: skip


def _bare(text: str) -> str:
    return text.replace(words.NBSP, " ")
