"""One application for both libraries: only the name of the package differs, and nothing else may have to.

Imported by workers and clients of either side. From the environment: ``FLEET_LIBRARY`` (``celery`` or
``opsq``), ``FLEET_BROKER``, ``FLEET_RESULTS``, ``FLEET_QUEUE`` and ``FLEET_SETTINGS`` (a JSON object).
``journal`` is where tasks that return nothing leave what they saw: the Redis of ``FLEET_JOURNAL``.
"""

from __future__ import annotations

import importlib
import json
import os
import time

import redis

LIBRARY = os.environ["FLEET_LIBRARY"]
library = importlib.import_module(LIBRARY)
exceptions = importlib.import_module(f"{LIBRARY}.exceptions")

app = library.Celery("fleet", broker=os.environ["FLEET_BROKER"], backend=os.environ["FLEET_RESULTS"])
app.conf.update(
    task_default_queue=os.environ["FLEET_QUEUE"],
    result_extended=True,
    task_send_sent_event=True,
    broker_connection_retry_on_startup=True,
)
app.conf.update(json.loads(os.environ.get("FLEET_SETTINGS", "{}")))

journal = redis.Redis.from_url(os.environ["FLEET_JOURNAL"], decode_responses=True)


class StockError(Exception):
    """An error that both sides can import."""


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def echo(value=None, **named):
    return {"value": value, **named} if named else value


@app.task
def kind_of(value):
    return type(value).__name__


@app.task
def boom():
    raise ValueError("boom", 42)


@app.task
def out_of_stock():
    raise StockError("out of stock", {"sku": 7})


@app.task
def ghost():
    """Fail with an error whose class the client has never seen."""
    raise type("GhostError", (Exception,), {"__module__": "ghostland"})("booh")


@app.task(bind=True, max_retries=3)
def third_time(self):
    if self.request.retries < 2:
        raise self.retry(exc=ValueError("not yet"), countdown=0.1)
    return self.request.retries


@app.task(bind=True, max_retries=1)
def never(self):
    raise self.retry(exc=StockError("never"), countdown=0.1)


@app.task(bind=True)
def much_later(self):
    raise self.retry(exc=ValueError("later"), countdown=3600)


@app.task(autoretry_for=(KeyError,), retry_kwargs={"max_retries": 2}, retry_backoff=0.1, retry_jitter=False, bind=True)
def by_itself(self):
    if self.request.retries == 0:
        raise KeyError("once")
    return self.request.retries


@app.task
def when():
    return time.time()


@app.task
def nap(seconds):
    time.sleep(seconds)
    return "rested"


@app.task
def interrupted(seconds):
    try:
        time.sleep(seconds)
    except exceptions.SoftTimeLimitExceeded:
        return "cleaned up"
    return "rested"


@app.task(bind=True)
def in_steps(self, gate):
    """Announce a state of one's own, and go on when something is pushed to ``gate``."""
    self.update_state(state="PROGRESS", meta={"current": 1, "total": 2})
    journal.blpop([gate], 30)
    return "done"


@app.task
def refuse():
    raise exceptions.Reject("not today", requeue=False)


@app.task
def ignored():
    raise exceptions.Ignore


@app.task(ignore_result=True)
def write_down(key, value):
    journal.rpush(key, value)


@app.task
def errback_in_process(request, exc, traceback):
    journal.rpush(f"errback:{request.id}", f"{type(exc).__name__}{exc.args}", str("boom" in str(traceback)))


@app.task
def noted(key, number, seconds):
    """Write down that it begins and ends, and under which library."""
    journal.rpush(key, f"S {number} {os.getpid()} {time.time():.6f}", f"by {number} {LIBRARY}")
    time.sleep(seconds)
    journal.rpush(key, f"D {number} {os.getpid()} {time.time():.6f}")


@app.task(bind=True)
def errback_as_message(self, failed_id):
    return failed_id


@app.task(bind=True)
def about_me(self):
    """What the request says, as far as both libraries promise it."""
    request = self.request
    return {
        "id": request.id,
        "my": getattr(request, "my", None),
        "stamps": dict(request.stamps or {}),
        "stamped_headers": sorted(request.stamped_headers or ()),
        "priority": request.delivery_info["priority"],
        "group": request.group,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "retries": request.retries,
        "shadow": request.shadow,
        "timelimit": list(request.timelimit or ()),
        "correlation_id": request.correlation_id,
    }


@app.task(bind=True)
def replaced(self, x):
    raise self.replace(add.s(x, 1))


@app.task(bind=True)
def replaced_by_chain(self, x):
    raise self.replace(add.s(x, 1) | add.s(10))


@app.task(bind=True)
def replaced_by_group(self, x):
    raise self.replace(library.group(add.s(x, 1), add.s(x, 2)))


@app.task(bind=True)
def replaced_by_chord(self, x):
    raise self.replace(library.chord([add.s(x, 1), add.s(x, 2)], total.s()))


@app.task(bind=True)
def one_more_part(self, x):
    self.add_to_chord(add.s(x, 100))
    return x


@app.task(bind=True)
def spawn(self):
    return add.delay(1, 2).id
