"""Results through Django's database connections, in the tables of django-celery-results: ``django-db``."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import django
from django.apps import apps as project
from django.conf import settings as of_django
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router, transaction
from django.db.models import Q
from django.db.utils import DatabaseError, IntegrityError, InterfaceError

from opsq import plugins
from opsq.core.backends.base import Capabilities, Kind
from opsq.core.backends.fields import Fields, readable, said_date, storable
from opsq.core.backends.lifetimes import Lifetimes, cutoff
from opsq.core.backends.polled import PolledBackend
from opsq.errors import BackendUnavailable, ConfigError
from opsq.settings import Settings
from opsq.wire.result import ResultMeta
from opsq.wire.states import FAILURE, STARTED, SUCCESS

_TRIES: Final = 5
_NAME_LENGTH: Final = 255
_WORKER_LENGTH: Final = 100


class DjangoBackend(PolledBackend):
    """Rows of the project's database; which one, its routers say.

    tables, prepare: of ``django_tables``, which can be imported only when Django is set up.
    Thread: any, as Django's connections are each thread's own; a forked child opens its own.
    """

    def __init__(self, tables: Any, prepare: Callable[[str], None], fields: Fields, lifetimes: Lifetimes) -> None:
        can = Capabilities(
            counts=False, expires=False, notifies=False, cross_process=True, keeps="fields", lifetimes="store"
        )
        super().__init__("django-db", can, (DatabaseError, InterfaceError, ImproperlyConfigured, OSError))
        self.fields = fields
        self._tables = tables
        self._prepare = prepare
        self._lifetimes = lifetimes
        self._pid = 0

    def close(self) -> None:
        """Close this thread's connection."""
        if self._pid == os.getpid():
            connections[router.db_for_write(self._tables.tasks)].close()
            self._pid = 0

    def _write(self, kind: Kind, id: str, payload: bytes, state: str, ttl_s: float | None) -> bool:
        rows, key = self._rows(kind)
        row = self._row(payload, state) if kind == "task" else self._group_row(payload)
        kept = Q(status=SUCCESS) & ~self._over(time.time()) if kind == "task" else Q(pk__in=())
        for _ in range(_TRIES):
            if rows.filter(**{key: id}).exclude(kept).update(**row):
                return True
            try:
                with transaction.atomic(using=rows.db):
                    if rows.filter(**{key: id}).exists():
                        return False
                    rows.create(**{key: id, "date_created": row["date_done"]}, **row)
                    return True
            except IntegrityError:
                continue  # somebody else made the row in between
        raise BackendUnavailable(f"result store {self._name}: others keep making and deleting {id}")

    def _read(self, kind: Kind, ids: Sequence[str]) -> Mapping[str, bytes]:
        rows, key = self._rows(kind)
        now = time.time()
        make = self._document if kind == "task" else self._group_document
        return {
            getattr(row, key): make(row)
            for row in rows.filter(**{f"{key}__in": ids})
            if not self._lifetimes.over(getattr(row, "status", None), _utc(row.date_done), now)
        }

    def _marks(self, ids: Sequence[str]) -> Mapping[str, object]:
        rows, _key = self._rows("task")
        return {row[0]: row[1:] for row in rows.filter(task_id__in=ids).values_list("task_id", "status", "date_done")}

    def _delete(self, kind: Kind, ids: Sequence[str]) -> None:
        rows, key = self._rows(kind)
        rows.filter(**{f"{key}__in": ids}).delete()

    def _sweep(self, now: float) -> int:
        tasks, _key = self._rows("task")
        groups, _key = self._rows("group")
        gone = int(tasks.filter(self._over(now)).delete()[0])
        others = self._lifetimes.cutoffs(now)[1]
        return gone + (int(groups.filter(date_done__lte=_of_django(others)).delete()[0]) if others else 0)

    def _rows(self, kind: Kind) -> tuple[Any, str]:
        """The rows of a kind in their database, connected and usable, and the name of their id."""
        model = self._tables.tasks if kind == "task" else self._tables.groups
        alias = router.db_for_write(model)
        if self._pid != os.getpid():
            connections[alias].connection = None  # after a fork it is the parent's: dropped, not closed
            self._prepare(alias)
            self._pid = os.getpid()
        connections[alias].close_if_unusable_or_obsolete()
        return model._default_manager.using(alias).all(), "task_id" if kind == "task" else "group_id"

    def _over(self, now: float) -> Q:
        failures, others = self._lifetimes.cutoffs(now)
        failed = Q(status=FAILURE)
        never = Q(pk__in=())
        return (never if failures is None else failed & Q(date_done__lte=_of_django(failures))) | (
            never if others is None else ~failed & Q(date_done__lte=_of_django(others))
        )

    def _row(self, payload: bytes, state: str) -> dict[str, Any]:
        meta = self.fields.record(payload)
        now = _of_django(cutoff(time.time(), 0))
        row = {
            "status": meta.status,
            "result": self._text(meta.result),
            "traceback": storable(meta.traceback),
            "date_done": now,
            "meta": self._text({"children": meta.children or []}),
            **self._content(),
        }
        if state == STARTED:
            row["date_started"] = now
        if meta.extended:
            row |= {
                "task_name": (meta.name or "")[:_NAME_LENGTH] or None,
                "task_args": self._text(meta.args),
                "task_kwargs": self._text(meta.kwargs),
                "worker": (meta.worker or "")[:_WORKER_LENGTH] or None,
            }
        return row

    def _document(self, row: Any) -> bytes:
        def make() -> bytes:
            more = self._value(row, row.meta)
            meta = ResultMeta(
                task_id=row.task_id,
                status=row.status,
                result=self._value(row, row.result),
                traceback=row.traceback,
                children=more.get("children") if isinstance(more, dict) else None,
                date_done=said_date(row.status, _utc(row.date_done)),
                extended=row.task_name is not None,
                name=row.task_name,
                args=self._value(row, row.task_args),
                kwargs=self._value(row, row.task_kwargs),
                worker=row.worker,
            )
            return self.fields.document(meta)

        return readable(make, row.result)

    def _group_row(self, payload: bytes) -> dict[str, Any]:
        members = self._text(self.fields.members(payload))
        return {"result": members, "date_done": _of_django(cutoff(time.time(), 0)), **self._content()}

    def _group_document(self, row: Any) -> bytes:
        return readable(lambda: self.fields.group(self._value(row, row.result)), row.result)

    def _content(self) -> dict[str, str]:
        mime, encoding = self.fields.content
        return {"content_type": mime, "content_encoding": encoding}

    def _text(self, value: object) -> str:
        data = self.fields.encode(value)
        return (base64.b64encode(data) if self.fields.content[1] == "binary" else data).decode("utf-8")

    def _value(self, row: Any, text: str | None) -> Any:
        if not text:
            return None
        return self.fields.decode(base64.b64decode(text) if row.content_encoding == "binary" else text)


def _of_django(naive_utc: datetime) -> datetime:
    """A moment as the project keeps times: with a zone, or in its own without one."""
    aware = naive_utc.replace(tzinfo=UTC)
    return aware if of_django.USE_TZ else aware.astimezone().replace(tzinfo=None)


def _utc(date: datetime) -> datetime:
    return date.astimezone(UTC)  # one without a zone is in local time


def open_django_db(url: str, settings: Settings) -> DjangoBackend:
    """Make the backend for ``django-db``; sets Django up where nobody has.

    Raises: ConfigError where Django has no settings.
    """
    try:
        if not project.models_ready:
            django.setup()
    except ImproperlyConfigured:
        raise ConfigError("result_backend django-db needs Django's settings; set DJANGO_SETTINGS_MODULE") from None
    tables: Any = plugins.import_module("opsq.core.backends.django_tables")
    return DjangoBackend(tables.TABLES, tables.prepare, Fields(settings), Lifetimes.of(settings))
