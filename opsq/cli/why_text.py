"""A diagnosis on the terminal: the sentence, its evidence, every cause that was checked, what would help."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from opsq import words
from opsq.events.diagnosis.records import NO, UNKNOWN, YES, Diagnosis, Proof, Remedy, Row, Said, Verdict
from opsq.wire import states

_MARKS: Final = {YES: ("●", "bold red"), UNKNOWN: ("?", "bold"), NO: ("–", "dim")}
_GOOD: Final = frozenset({states.SUCCESS, states.STARTED, states.IGNORED})


def show(found: Diagnosis, console: Console) -> None:
    """Print a diagnosis."""
    console.print(_title(found))
    console.print(
        said(found.sentence, "bold yellow" if found.waits else "bold" if found.state in _GOOD else "bold red")
    )
    if found.lead:
        console.print(said(found.lead, ""))
    if found.proofs:
        _head(console, "Evidence")
        for number, proof in enumerate(found.proofs, 1):
            _proof(console, number, proof)
    if found.waits:
        _head(console, "Checked")
        for check in found.checks:
            console.print(_check(check))
    if found.remedies:
        _head(console, "What helps", "estimates; nothing has been changed")
        for remedy in found.remedies:
            _remedy(console, remedy)
    for lack in found.lacks:
        console.print(Text(f"Not known: {lack}.", style="dim"))


def said(parts: Said, style: str) -> Text:
    """A sentence, its names in italics."""
    text = Text(style=style)
    for part in parts:
        text.append(part) if isinstance(part, str) else text.append(part.text, style="italic")
    text.rstrip()
    return text


def _title(found: Diagnosis) -> Text:
    facts = [
        found.state,
        f"queue {found.queue}" if found.queue else "",
        f"worker {found.worker}" if found.worker else "",
    ]
    return Text.assemble(
        (found.type or "a task of unknown type", "bold"), " ", found.task, "  ",
        (", ".join(fact for fact in facts if fact), "dim"),
    )  # fmt: skip


def _head(console: Console, title: str, small: str = "") -> None:
    console.print()
    console.print(Text.assemble((title, "bold underline"), "  " if small else "", (small, "dim")))


def _proof(console: Console, number: int, proof: Proof) -> None:
    console.print(Text.assemble((f"{number}  ", "dim"), proof.heading))
    if proof.rows:
        console.print(Padding(_table(proof.rows), (0, 0, 0, 3)))
    if proof.text:
        console.print(Padding(Text(proof.text, style="dim"), (0, 0, 0, 3)))


def _table(rows: Iterable[Row]) -> Table:
    table = Table("worker", "runs", "for", "usual p95", "task", box=None, pad_edge=False, header_style="dim")
    for row in rows:
        late = row.for_s is not None and row.usual_s is not None and row.for_s > row.usual_s
        table.add_row(
            words.short_host(row.worker), words.short_name(row.type or words.UNKNOWN),
            Text(words.duration(row.for_s), style="red" if late else ""),
            words.duration(row.usual_s) if row.usual_s is not None else words.NOT_APPLICABLE,
            Text(words.short_id(row.task), style="dim"),
        )  # fmt: skip
    return table


def _check(check: Verdict) -> Text:
    answer, text = check.found.answer, check.found.text
    mark, style = _MARKS[answer]
    shown = "" if answer == NO else "bold"
    return Text.assemble((f"{mark}  ", style), (f"{check.title}: ", shown), (text, "dim" if answer == NO else ""))


def _remedy(console: Console, remedy: Remedy) -> None:
    console.print(Text.assemble("·  ", (remedy.title, "bold")))
    if remedy.command:
        console.print(Text(f"   $ {remedy.command}", style="cyan"), soft_wrap=True)
    effects = "; ".join(f"{each.label.lower()} {each.text}" for each in remedy.effects)
    for text in (effects, remedy.note):
        if text:
            console.print(Padding(Text(text, style="dim" if text is remedy.note else ""), (0, 0, 0, 3)))
