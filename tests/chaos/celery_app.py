"""The control: real Celery with its defaults under the same fire; run by the interpreter that has it.

``LEDGER`` names the file, ``BROKER`` the URL. See ``kill_app.py``.
"""

import os
import time

from celery import Celery

app = Celery("control", broker=os.environ["BROKER"])
app.conf.task_ignore_result = True


def note(line):
    """Add one whole line to the ledger."""
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    try:
        os.write(ledger, f"{line}\n".encode())
    finally:
        os.close(ledger)


@app.task
def work(number, milliseconds):
    """Sleep, between two lines of the ledger."""
    note(f"S {number} {os.getpid()} {time.time():.6f}")
    time.sleep(milliseconds / 1000)
    note(f"D {number} {os.getpid()} {time.time():.6f}")


@app.task(acks_late=True, reject_on_worker_lost=True, name="celery_app.late")
def late(number, milliseconds):
    """The same, acknowledged afterwards."""
    work(number, milliseconds)
