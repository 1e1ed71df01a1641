"""Tasks in both ways of writing them."""

import os
import time

from django.db import connection, connections

from opsq import shared_task
from opsq.contrib.django.versions import TaskContext
from tests.django.pets.models import Pet

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task


@shared_task
def adopt(name):
    """Add a row."""
    return Pet.objects.create(name=name).pk


@shared_task
async def count():
    """Ask on the loop."""
    return await Pet.objects.acount()


@shared_task
async def idle():
    """Use no database."""
    return "nothing"


@shared_task
def session():
    """Which session of PostgreSQL the slot has, and its process."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return [int(cursor.fetchone()[0]), os.getpid(), len(connections.all(initialized_only=True))]


@task
def name_of(pk, *, upper=False):
    """Look a name up."""
    name = Pet.objects.get(pk=pk).name
    return name.upper() if upper else name


@task(takes_context=True, queue_name="slow")
def about(context, first, *rest):
    """Tell what the context says."""
    assert isinstance(context, TaskContext)
    result = context.task_result
    return {
        "id": result.id,
        "attempt": context.attempt,
        "args": [first, *rest],
        "queue": result.task.queue_name,
        "status": str(result.status),
    }


@task
async def on_the_loop(number):
    """Use the database on the loop."""
    return number + await Pet.objects.acount()


@task
def wrong():
    """Fail."""
    raise LookupError("no such pet")


@task
def when():
    """Say when it runs."""
    return time.time()
