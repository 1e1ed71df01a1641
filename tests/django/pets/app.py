"""The opsq app of the project; in ``PETS_HOLD`` its main process holds a database connection from before the fork."""

import os
from pathlib import Path

from django.db import connection

from opsq import Celery
from opsq.signals import celeryd_after_setup, worker_shutdown

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")

app = Celery("pets")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

eager = Celery("eager", task_always_eager=True, broker="memory://", backend="disabled", set_as_current=False)


def session() -> int:
    """The number of this connection's session in PostgreSQL."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


if "PETS_HOLD" in os.environ:

    @celeryd_after_setup.connect
    def hold(**kwargs):
        """Open one."""
        Path(os.environ["PETS_HOLD"]).write_text(f"{session()} ")

    @worker_shutdown.connect
    def use(**kwargs):
        """Use it, after all children have ended."""
        with Path(os.environ["PETS_HOLD"]).open("a") as file:
            file.write(str(session()))
