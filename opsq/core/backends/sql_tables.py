"""Celery's result tables in a SQL database, and opsq's three beside them that count chords.

Made when missing, as Celery makes them; columns that an older Celery did not have are added.

Source: celery-protocol D.7.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
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
        sa.Table(
            _text(names.get("task")) or TASKS,
            metadata,
            _number("task_id_sequence", of_tasks),
            *_columns_of_tasks(),
            schema=of_tasks,
            sqlite_autoincrement=True,
        ),
        sa.Table(
            _text(names.get("group")) or GROUPS,
            metadata,
            _number("taskset_id_sequence", of_groups),
            sa.Column("taskset_id", _ID, unique=True),
            sa.Column("result", _BYTES),
            sa.Column("date_done", sa.DateTime, index=True),
            schema=of_groups,
            sqlite_autoincrement=True,
        ),
        sa.Table("opsq_chord", metadata, *_columns_of_chords(), schema=of_groups),
        sa.Table(
            "opsq_chord_part",
            metadata,
            sa.Column("group_id", _ID, primary_key=True),
            sa.Column("task_id", _ID, primary_key=True),
            sa.Column("place", sa.Double, nullable=False),
            sa.Column("payload", _BYTES, nullable=False),
            schema=of_groups,
        ),
        sa.Table(
            "opsq_chord_start",
            metadata,
            sa.Column("task_id", _ID, primary_key=True),
            sa.Column("run", sa.String(64), nullable=False),
            sa.Column("ends_at", sa.Double, index=True),
            schema=of_groups,
        ),
    )


def _columns_of_tasks() -> Iterator[sa.Column[Any]]:
    yield sa.Column("task_id", _ID, unique=True)
    yield sa.Column("status", sa.String(50))
    yield sa.Column("result", _BYTES)
    yield sa.Column("date_done", sa.DateTime, index=True)
    yield sa.Column("traceback", _TEXT)
    yield sa.Column("children", _BYTES)
    # Of ``result_extended``; without it they stay empty.
    yield sa.Column("name", sa.String(_ID_LENGTH))
    yield sa.Column("args", _BYTES)
    yield sa.Column("kwargs", _BYTES)
    yield sa.Column("worker", sa.String(_ID_LENGTH))
    yield sa.Column("retries", sa.Integer)
    yield sa.Column("queue", sa.String(_ID_LENGTH))
    yield sa.Column("stamps", _BYTES)


def _columns_of_chords() -> Iterator[sa.Column[Any]]:
    yield sa.Column("group_id", _ID, primary_key=True)
    yield sa.Column("size", sa.Integer)
    yield sa.Column("more", sa.Integer, nullable=False)
    yield sa.Column("came", sa.Integer, nullable=False)
    yield sa.Column("token", sa.String(64))
    yield sa.Column("claim_ends_at", sa.Double, nullable=False)
    yield sa.Column("body", _BYTES)
    yield sa.Column("done", sa.Boolean(create_constraint=False), nullable=False)
    yield sa.Column("ends_at", sa.Double, index=True)


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
