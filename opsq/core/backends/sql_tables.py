"""Celery's result tables in a SQL database, and opsq's three beside them that count chords.

Made when missing, as Celery makes them; columns that an older Celery did not have are added.

Source: celery-protocol D.7.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

log = logging.getLogger(__name__)

TASKS: Final = "celery_taskmeta"
GROUPS: Final = "celery_tasksetmeta"
_ID_LENGTH: Final = 155
_TRIES: Final = 5
# MySQL's own BLOB and TEXT end at 64 kB, and the rest of a result would be cut off or refused.
_BYTES: Final = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_TEXT: Final = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
# Ids differ by case; MySQL's usual collations do not.
_ID: Final = sa.String(_ID_LENGTH).with_variant(mysql.VARCHAR(_ID_LENGTH, collation="utf8mb4_bin"), "mysql", "mariadb")


class Tables(NamedTuple):
    """Where tasks, saved groups, chords, their parts and the starts of their bodies are kept."""

    tasks: sa.Table
    groups: sa.Table
    chords: sa.Table
    parts: sa.Table
    starts: sa.Table


def tables(names: Mapping[str, object], schemas: Mapping[str, object]) -> Tables:
    """Describe them. names, schemas: by ``task`` and ``group``, as the settings ``database_table_*`` say."""
    metadata = sa.MetaData()
    of_tasks, of_groups = _text(schemas.get("task")), _text(schemas.get("group"))
    return Tables(
        tasks=sa.Table(
            _text(names.get("task")) or TASKS,
            metadata,
            _number("task_id_sequence", of_tasks),
            sa.Column("task_id", _ID, unique=True),
            sa.Column("status", sa.String(50)),
            sa.Column("result", _BYTES),
            sa.Column("date_done", sa.DateTime, index=True),
            sa.Column("traceback", _TEXT),
            sa.Column("children", _BYTES),
            sa.Column("name", sa.String(_ID_LENGTH)),
            sa.Column("args", _BYTES),
            sa.Column("kwargs", _BYTES),
            sa.Column("worker", sa.String(_ID_LENGTH)),
            sa.Column("retries", sa.Integer),
            sa.Column("queue", sa.String(_ID_LENGTH)),
            sa.Column("stamps", _BYTES),
            schema=of_tasks,
            sqlite_autoincrement=True,
        ),
        groups=sa.Table(
            _text(names.get("group")) or GROUPS,
            metadata,
            _number("taskset_id_sequence", of_groups),
            sa.Column("taskset_id", _ID, unique=True),
            sa.Column("result", _BYTES),
            sa.Column("date_done", sa.DateTime, index=True),
            schema=of_groups,
            sqlite_autoincrement=True,
        ),
        chords=sa.Table(
            "opsq_chord",
            metadata,
            sa.Column("group_id", _ID, primary_key=True),
            sa.Column("size", sa.Integer),
            sa.Column("more", sa.Integer, nullable=False),
            sa.Column("came", sa.Integer, nullable=False),
            sa.Column("token", sa.String(64)),
            sa.Column("claim_ends_at", sa.Double, nullable=False),
            sa.Column("body", _BYTES),
            sa.Column("done", sa.Boolean(create_constraint=False), nullable=False),
            sa.Column("ends_at", sa.Double, index=True),
            schema=of_groups,
        ),
        parts=sa.Table(
            "opsq_chord_part",
            metadata,
            sa.Column("group_id", _ID, primary_key=True),
            sa.Column("task_id", _ID, primary_key=True),
            sa.Column("place", sa.Double, nullable=False),
            sa.Column("payload", _BYTES, nullable=False),
            schema=of_groups,
        ),
        starts=sa.Table(
            "opsq_chord_start",
            metadata,
            sa.Column("task_id", _ID, primary_key=True),
            sa.Column("run", sa.String(64), nullable=False),
            sa.Column("ends_at", sa.Double, index=True),
            schema=of_groups,
        ),
    )


def prepare(engine: sa.Engine, wanted: Tables) -> None:
    """Make the tables and columns that are missing.

    Raises: DBAPIError when there is no table and none can be made.
    """
    metadata = wanted.tasks.metadata
    for tries in range(_TRIES):
        try:
            metadata.create_all(engine)
            break
        except DBAPIError:
            # Two processes that start together both find a table missing; the second finds it made.
            if tries + 1 == _TRIES:
                raise
    _add_columns(engine, wanted.tasks)


def _add_columns(engine: sa.Engine, table: sa.Table) -> None:
    known = {column["name"] for column in sa.inspect(engine).get_columns(table.name, schema=table.schema)}
    prepare = engine.dialect.identifier_preparer
    for column in [column for column in table.columns if column.name not in known]:
        kind = column.type.compile(engine.dialect)
        order = f"ALTER TABLE {prepare.format_table(table)} ADD COLUMN {prepare.quote(column.name)} {kind}"
        try:
            with engine.begin() as db:
                db.execute(sa.text(order))
        except SQLAlchemyError as error:
            log.warning(
                "a column of the result table is missing; results are stored without it",
                extra={"column": column.name, "do": order, "error": str(getattr(error, "orig", error))},
            )
            table._columns.remove(column)


def _number(sequence: str, schema: str | None) -> sa.Column[Any]:
    kind = sa.Integer().with_variant(sa.BigInteger, "mssql")
    return sa.Column("id", kind, sa.Sequence(sequence, schema=schema), primary_key=True, autoincrement=True)


def _text(value: object) -> str | None:
    return str(value) if value else None
