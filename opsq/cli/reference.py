"""Write the generated pages of ``docs/``: ``python -m opsq.cli.reference docs``.

Each page is written from the table that the code itself reads, and a test compares the committed
pages with what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import click

from opsq.cli.control_page import control_page
from opsq.cli.main import COMMANDS, cli
from opsq.cli.settings_page import manual_page
from opsq.errors import ExitCode
from opsq.web.metrics import SERIES
from opsq.web.metrics_foreign import FOREIGN
from opsq.web.metrics_names import LABEL_BUDGET
from opsq.web.metrics_scrape import Series
from opsq.wire.event_kinds import COMMON_FIELDS, EVENT_KINDS, Field

WRITTEN: Final = "<!-- Written by `make docs` from {source}; change it there. -->\n"

EXIT_CODES: Final[Mapping[ExitCode, str]] = {
    ExitCode.OK: "Done.",
    ExitCode.FAILURE: "It did not work; the task that was waited for failed.",
    ExitCode.CONFIG: "The configuration cannot be used; every fault was printed.",
    ExitCode.USAGE: "The command line cannot be understood.",
    ExitCode.UNAVAILABLE: "Broker, result store or answer could not be had in time; trying again may help.",
    ExitCode.CANNOT_CREATE: "A file or port that is needed is taken or cannot be made.",
}


def cli_page() -> str:
    """Return ``docs/cli.md``: every command with its options, and the exit codes."""
    parts = ["# Command line\n", WRITTEN.format(source="the commands"), "```\n" + _help_of(cli, "opsq") + "\n```\n"]
    context = click.Context(cli, info_name="opsq")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts.append(f"## opsq {name}\n\n```\n{_help_of(command, f'opsq {name}')}\n```\n")
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                if not inner.hidden:
                    title = f"opsq {name} {inner.name}"
                    parts.append(f"### {title}\n\n```\n{_help_of(inner, title)}\n```\n")
    rows = ((str(code.value), code.name, text) for code, text in EXIT_CODES.items())
    parts.append("## Exit codes\n\n" + _table(("code", "name", "meaning"), rows))
    return "\n".join(parts)


def events_page() -> str:
    """Return ``docs/events.md``: every event with its fields."""
    parts = [
        "# Events\n",
        WRITTEN.format(source="`opsq/wire/event_kinds.py`"),
        "Workers and clients announce what happens on the exchange `celeryev`. Kinds and fields are Celery's; those\n"
        "marked *opsq* are added, and Celery's own monitors ignore them. Times are epoch seconds.\n",
        "## On every event\n\n" + _fields(COMMON_FIELDS),
    ]
    parts += [f"## {kind.name}\n\n{kind.doc}\n\n{_fields(kind.fields)}" for kind in EVENT_KINDS.values()]
    return "\n".join(parts)


def metrics_page() -> str:
    """Return ``docs/metrics.md``: every series of ``/metrics``."""
    parts = [
        "# Metrics\n",
        WRITTEN.format(source="`opsq/web/metrics.py` and `opsq/web/metrics_foreign.py`"),
        "The monitor answers `/metrics` in Prometheus' text format, or in OpenMetrics with exemplars (the id of a\n"
        "task in each bucket) when the scraper asks for it. A figure that is not known is absent, never 0. No counter\n"
        "falls, though history corrects itself. Bounds of histograms are exact to 2 %.\n",
        f"A label tells {LABEL_BUDGET} names apart: the most used when the monitor started, then those that come.\n"
        "All others share `other`, and `opsq_metrics_hidden_names` says how many they are.\n",
        "## opsq's own\n\n" + _series(SERIES),
    ]
    for name, series in FOREIGN.items():
        title = {"flower": "Flower's", "celery": "celery-exporter's"}[name]
        parts.append(
            f"## {title}\n\nTold while `{name}` is in the setting `web_metrics_names`; counts begin when the monitor "
            f"starts.\n\n{_series(series)}"
        )
    return "\n".join(parts)


def _series(series: Iterable[Series]) -> str:
    rows = ((f"`{one.name}`", one.kind, one.unit or "–", ", ".join(one.labels) or "–", one.help) for one in series)
    return _table(("series", "kind", "unit", "labels", "meaning"), rows)


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "settings.md": manual_page,
    "cli.md": cli_page,
    "events.md": events_page,
    "metrics.md": metrics_page,
    "control.md": control_page,
}


def _help_of(command: click.Command, title: str) -> str:
    context = click.Context(command, info_name=title, terminal_width=100)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def _fields(fields: Iterable[Field]) -> str:
    rows = ((f"`{one.name}`", one.types.replace("|", " or "), one.unit or "–", one.origin, one.doc) for one in fields)
    return _table(("field", "type", "unit", "from", "meaning"), rows)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main(folder: str) -> None:
    """Write every page into ``folder``."""
    for name, write in PAGES.items():
        Path(folder, name).write_text(write())


if __name__ == "__main__":
    main(sys.argv[1])
