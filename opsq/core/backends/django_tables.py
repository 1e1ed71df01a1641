"""The tables of django-celery-results, described once more so that using them imports no Celery.

The models live in a registry of their own: the project's, and those of the package when it is installed,
are not touched. Django must be set up before this is imported.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from django.apps import apps as project
from django.apps.registry import Apps
from django.db import connections, models

from opsq.errors import BackendUnavailable

PACKAGE: Final = "django_celery_results"
_OWN: Final = Apps()
_ID_LENGTH: Final = 255


class TaskResult(models.Model):  # type: ignore[misc]  # Django has no types
    """A task's state."""

    id = models.AutoField(primary_key=True)
    task_id = models.CharField(max_length=_ID_LENGTH, unique=True)
    periodic_task_name = models.CharField(null=True, max_length=255)
    task_name = models.CharField(null=True, max_length=_ID_LENGTH, db_index=True)
    task_args = models.TextField(null=True)
    task_kwargs = models.TextField(null=True)
    status = models.CharField(max_length=50, default="PENDING", db_index=True)
    worker = models.CharField(max_length=100, null=True)
    content_type = models.CharField(max_length=128)
    content_encoding = models.CharField(max_length=64)
    result = models.TextField(null=True)
    date_created = models.DateTimeField()
    date_started = models.DateTimeField(null=True)
    date_done = models.DateTimeField(db_index=True)
    traceback = models.TextField(null=True)
    meta = models.TextField(null=True)

    class Meta:
        apps = _OWN
        app_label = PACKAGE
        db_table = f"{PACKAGE}_taskresult"


class GroupResult(models.Model):  # type: ignore[misc]
    """A saved group."""

    id = models.AutoField(primary_key=True)
    group_id = models.CharField(max_length=_ID_LENGTH, unique=True)
    date_created = models.DateTimeField()
    date_done = models.DateTimeField(db_index=True)
    content_type = models.CharField(max_length=128)
    content_encoding = models.CharField(max_length=64)
    result = models.TextField(null=True)

    class Meta:
        apps = _OWN
        app_label = PACKAGE
        db_table = f"{PACKAGE}_groupresult"


class Tables(NamedTuple):
    """The models of tasks and of saved groups."""

    tasks: type[models.Model]
    groups: type[models.Model]


TABLES: Final = Tables(TaskResult, GroupResult)


def prepare(alias: str) -> None:
    """Make the tables where the package that has migrations for them is not installed.

    Raises: BackendUnavailable when it is, and its migrations have not run.
    """
    connection = connections[alias]
    there = set(connection.introspection.table_names())
    missing = [model for model in TABLES if model._meta.db_table not in there]
    if not missing:
        return
    if project.ready and project.is_installed(PACKAGE):
        raise BackendUnavailable(f"the table {missing[0]._meta.db_table} is missing; run: manage.py migrate {PACKAGE}")
    with connection.schema_editor() as editor:
        for model in missing:
            editor.create_model(model)
