"""The Celery application that golden messages are captured from; needs Celery, not opsq.

``GOLDEN_BROKER`` is its Redis, ``GOLDEN_CONFIG`` a JSON object of settings.
"""

from __future__ import annotations

import json
import os
import time

from celery import Celery
from celery.exceptions import Reject

app = Celery("golden", broker=os.environ["GOLDEN_BROKER"], backend=os.environ["GOLDEN_BROKER"])
app.conf.update(
    task_default_queue="golden",
    accept_content=["json", "pickle", "yaml", "msgpack"],
    task_send_sent_event=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
app.conf.update(json.loads(os.environ.get("GOLDEN_CONFIG", "{}")))


@app.task
def add(x, y):
    return x + y


@app.task
def tsum(numbers):
    return sum(numbers)


@app.task
def errb(*args):
    return None


@app.task
def echo(value=None, **named):
    return value


@app.task
def boom():
    raise ValueError("boom", 42)


@app.task
def boom_object():
    raise ValueError("holds", object)


@app.task(bind=True, max_retries=3)
def again(self):
    raise self.retry(exc=ValueError("again"), countdown=60, queue="golden-retry")


@app.task
def refuse():
    raise Reject("not today", requeue=False)


@app.task(bind=True)
def progress(self):
    self.send_event("task-progress", current=1, total=2, note="half")
    self.update_state(state="PROGRESS", meta={"current": 1, "total": 2})
    return "done"


@app.task(bind=True)
def spawn(self):
    return add.delay(1, 2).id


@app.task
def nap(seconds):
    time.sleep(seconds)
