"""The manual page of the settings, written from their table. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from opsq.settings import OPTIONS
from opsq.settings_options import OptionInfo, bounds_text, kinds_text, number_text

SECTIONS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("General and content", ()),
    ("Logging", ("log_",)),
    ("Messages", ("message_", "accept_content")),
    ("Broker and publishing", ("broker_", "publish_", "lease_")),
    ("Tasks", ("task_", "quarantine_")),
    ("Results", ("result_",)),
    ("Redis result store", ("redis_",)),
    ("SQL result store", ("database_",)),
    ("Worker", ("worker_",)),
    ("Autoscaling", ("autoscale_",)),
    ("Events", ("event_", "events_")),
    ("Remote control", ("control_",)),
    ("Beat", ("beat_",)),
    ("Signed messages", ("security_",)),
    ("Monitor", ("monitor_",)),
    ("Web", ("web_",)),
    ("Result stores of others", ("arangodb_", "azureblockblob_", "cache_", "cassandra_", "cosmosdbsql_", "couchbase_",
                                 "elasticsearch_", "gcs_", "mongodb_", "s3_")),
)  # fmt: skip
"""Headings of the manual page, and the prefixes that go under each; the first takes what is left."""

PREAMBLE: Final = """# Settings

<!-- Written by `opsq config docs --write docs/settings.md` from opsq/settings.py; change it there. -->

A value is taken from the last of these that gives one:

1. the default in the tables below;
2. `opsq.toml`, or `[tool.opsq]` in `pyproject.toml`: the nearest one, from the current folder upwards
   (`OPSQ_CONFIG` names another file);
3. the environment: `OPSQ_` and the name in upper case, such as `OPSQ_TASK_ACKS_LATE=false`.
   Lists are separated by commas or written as JSON, tables are JSON, `none` is none, and an empty
   variable gives nothing;
4. code: `app.conf`, `Opsq(…, name=value)`, `config_from_object`;
5. the command line.

`opsq config show --origin` says where each value came from, and `opsq config check` everything that is
wrong at once. In text, durations may be written `500ms`, `30s`, `5m`, `2h` or `1d`, and sizes `64MiB` or `1GB`.

Names are Celery's where Celery has the setting; its names from before version 4 (`CELERYD_CONCURRENCY`)
are accepted in code with a notice. Of Celery's environment variables opsq reads `CELERY_BROKER_URL`,
`CELERY_BROKER_READ_URL`, `CELERY_BROKER_WRITE_URL` and `CELERY_RESULT_BACKEND`, among others.
"""


def manual_page() -> str:
    """Return ``docs/settings.md``; depends on nothing but the table."""
    return PREAMBLE + "".join(_section(title, names) for title, names in sections().items())


def sections() -> dict[str, list[str]]:
    """Return the names of all settings under their headings, in the order of the page."""
    found: dict[str, list[str]] = {title: [] for title, _ in SECTIONS}
    for name in OPTIONS:
        titles = (title for title, prefixes in SECTIONS if name.startswith(prefixes) and prefixes)
        found[next(titles, SECTIONS[0][0])].append(name)
    return found


def _section(title: str, names: list[str]) -> str:
    rows = "".join(_row(OPTIONS[name]) for name in names)
    return f"\n## {title}\n\n| Setting | Type | Default | Meaning |\n|---|---|---|---|\n{rows}"


def _row(info: OptionInfo) -> str:
    takes = ", ".join(f"`{choice}`" for choice in info.choices) or kinds_text(info)
    if info.choices and "None" in info.kinds:
        takes += " or none"
    limits = bounds_text(info) or info.unit
    meaning = info.doc + "".join(f" {note}" for note in _notes(info))
    cells = (f"`{info.name}`", f"{takes}; {limits}" if limits else takes, _default(info.default), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _notes(info: OptionInfo) -> Iterator[str]:
    if info.differs:
        yield f"*Celery's default: {_default(info.celery_default)}.*"
    if info.secret:
        yield "*Never shown.*"
    if info.inert:
        yield f"*Accepted but not used: {info.inert}.*"


def _default(value: object) -> str:
    return "none" if value is None else f"`{as_text(value)}`"


def as_text(value: object) -> str:
    """A value as it would be written in TOML, nearly."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, (str, int, list, tuple, Mapping)):
        return json.dumps(value, default=repr, ensure_ascii=False)
    return repr(value)
