"""Fifteen tasks, the workflows made of them and a schedule, as a Celery project has them."""

from __future__ import annotations

import os

from opsq import Celery, chain, chord, group, shared_task
from opsq.exceptions import Ignore, MaxRetriesExceededError, Reject
from opsq.result import AsyncResult
from opsq.schedules import crontab
from opsq.utils.log import get_task_logger

logger = get_task_logger(__name__)

app = Celery("shop", broker=os.environ.get("SHOP_BROKER"), backend=os.environ.get("SHOP_RESULTS"))
app.conf.update(
    task_serializer="json",
    result_extended=True,
    task_routes={"shop.mail": {"queue": "celery"}},
    timezone="Europe/Berlin",
    beat_schedule={
        "news": {"task": "shop.mail", "schedule": 0.5, "args": ("subscribers",)},
        "report": {
            "task": "shop.mail",
            "schedule": crontab(hour=3, minute=0, day_of_week="mon-fri"),
            "kwargs": {"to": "boss"},
            "options": {"expires": 3600},
        },
    },
)


@app.on_after_configure.connect
def by_the_clock(sender, **kwargs):
    """Entries that are made in code."""
    sender.add_periodic_task(0.7, mail.s("pen pals"), name="letters")


@app.task
def add(x, y):
    """1: a plain task."""
    return x + y


@app.task(name="shop.total")
def total(numbers):
    """2: a name of its own; the body of chords."""
    return sum(numbers)


@shared_task
def double(x):
    """3: shared by apps."""
    return 2 * x


@app.task(bind=True)
def whoami(self):
    """4: reads its request."""
    return {"id": self.request.id, "retries": self.request.retries, "name": self.name}


@app.task(bind=True, max_retries=3, default_retry_delay=0.05)
def unsteady(self, works_at):
    """5: retries by hand."""
    if self.request.retries < works_at:
        raise self.retry(exc=ConnectionError("not yet"))
    return self.request.retries


@app.task(bind=True, autoretry_for=(KeyError,), retry_backoff=0.01, retry_jitter=False, max_retries=2)
def retried_by_itself(self):
    """6: retries by declaration."""
    if self.request.retries == 0:
        raise KeyError("once")
    return "at last"


@app.task(bind=True, max_retries=1, default_retry_delay=0.01)
def hopeless(self):
    """7: gives up, and says so."""
    try:
        raise self.retry()
    except MaxRetriesExceededError:
        return "gave up"


@app.task(bind=True)
def import_rows(self, rows):
    """8: a state of its own."""
    for number, _row in enumerate(rows, 1):
        self.update_state(state="PROGRESS", meta={"current": number, "total": len(rows)})
    return len(rows)


@app.task(ignore_result=True, name="shop.mail")
def mail(to):
    """9: nobody wants its result; routed by name."""
    logger.info("mail to %s", to)


@app.task
def fails(text):
    """10: fails."""
    raise ValueError(text)


@app.task
def on_failure(request, exc, traceback):
    """11: an error callback of the new form."""
    logger.error("%s failed: %r", request.id, exc)


@app.task(bind=True)
def skipped(self):
    """12: ends without a result."""
    raise Ignore


@app.task
def refused():
    """13: refuses its message."""
    raise Reject("no", requeue=False)


@app.task(bind=True)
def grows(self, x):
    """14: replaced by a workflow while it runs."""
    raise self.replace(chain(add.s(x, 1), double.s()))


class Priced(app.Task):
    """A base class with a cache, as many projects have."""

    _prices = None

    @property
    def prices(self):
        """Prices by product, read once per process."""
        if self._prices is None:
            self._prices = {"book": 12, "pen": 2}
        return self._prices


@app.task(base=Priced, bind=True, throws=(LookupError,))
def price(self, product, amount=1):
    """15: a base class of its own."""
    return self.prices[product] * amount


def workflows():
    """The workflows of the shop, by name, with what comes of each."""
    return {
        "chain": (add.s(1, 2) | double.s() | add.s(1), 7),
        "group": (group(add.s(n, n) for n in range(4)), [0, 2, 4, 6]),
        "chord": (chord([add.s(1, 1), add.s(2, 2)], total.s()), 6),
        "fan out and in": (chain(add.s(1, 1), group(double.s(), add.s(10)), total.s()), 16),
        "chords in a chord": (
            chord([chord([add.s(1, 1), double.s(2)], total.s()), chain(add.s(1, 2), double.s())], total.s()),
            12,
        ),
        "chunks": (add.chunks([(n, 1) for n in range(4)], 2).group(), [[1, 2], [3, 4]]),
        "map": (total.map([[1, 2], [3, 4]]), [3, 7]),
        "immutable": (add.s(1, 1) | add.si(2, 2), 4),
        "replaced": (grows.s(4) | add.s(100), 110),
        "priced": (group(price.s("book"), price.s("pen", amount=3)) | total.s(), 18),
    }


def later(task_id):
    """Look at a result again."""
    return AsyncResult(task_id, app=app).get(timeout=10)
