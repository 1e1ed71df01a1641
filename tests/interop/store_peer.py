"""Either library at a result store: writes and reads what it is asked for, one JSON line each (see ``client.py``).

Arguments: the store's URL, and its settings as a JSON object. The library is ``FLEET_LIBRARY``'s.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from types import SimpleNamespace

LIBRARY = os.environ["FLEET_LIBRARY"]
URL, SETTINGS = sys.argv[1], json.loads(sys.argv[2])

if "DJANGO_DATABASE" in SETTINGS:
    from django.conf import settings as of_django

    cache_of_files = "django.core.cache.backends.filebased.FileBasedCache"
    of_django.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": SETTINGS.pop("DJANGO_DATABASE")}},
        CACHES={"default": {"BACKEND": cache_of_files, "LOCATION": SETTINGS.pop("DJANGO_CACHE")}},
        INSTALLED_APPS=["django_celery_results"] if LIBRARY == "celery" else [],
        USE_TZ=True,
    )
    importlib.import_module("django").setup()
    if LIBRARY == "celery":
        importlib.import_module("django.core.management").call_command("migrate", verbosity=0)

library = importlib.import_module(LIBRARY)
results = importlib.import_module(f"{LIBRARY}.result")
app = library.Celery("peer", backend=URL, broker="memory://")
app.conf.update({**SETTINGS, "result_extended": True})

ABOUT = {"args": [1, "two"], "kwargs": {"three": 3}, "retries": 2}
REQUEST = SimpleNamespace(
    **ABOUT, task="shop.add", argsrepr="[1]", kwargsrepr="{}", hostname="w@host", group=None, parent_id=None, meta={},
    delivery_info={"routing_key": "celery"}, stamped_headers=["order"], stamps={"order": "7"}, periodic_task_name=None,
)  # fmt: skip


def write(id: str, state: str, value: object, error: str | None = None, children: bool = True) -> None:
    """As a worker does. error: the text of an error to be stored instead of ``value``."""
    REQUEST.children = [results.AsyncResult("a-child", app=app)] if children else []
    value = ValueError(error, 42) if error is not None else value
    text = "Traceback …" if error is not None else None
    if LIBRARY == "celery":
        app.backend.store_result(id, value, state, traceback=text, request=REQUEST)
        return
    wire = importlib.import_module("opsq.wire.result")
    called = [child.as_tuple() for child in REQUEST.children]
    meta = wire.ResultMeta(
        task_id=id, status=state, result=value, traceback=text, children=called,
        date_done="2099-11-21T02:44:34.169935+00:00", extended=True, name="shop.add", worker="w@host", queue="celery",
        stamped_headers=["order"], stamps={"order": "7"}, **ABOUT,
    )  # fmt: skip
    app.backend.store(meta)


def write_group(id: str, members: list[str]) -> None:
    """As whoever publishes a group."""
    results.GroupResult(id, [results.AsyncResult(member, app=app) for member in members], app=app).save()


def read(id: str) -> dict[str, object]:
    """As a client does."""
    result = app.AsyncResult(id)
    value = result.result
    return {
        "state": result.state,
        "result": [type(value).__name__, list(value.args)] if isinstance(value, Exception) else value,
        "traceback": result.traceback,
        "children": [child.id for child in result.children or ()] if result.ready() else [],
    }


def read_group(id: str) -> list[str]:
    """As whoever was told a group's id."""
    restored = results.GroupResult.restore(id, app=app)
    return [member.id for member in getattr(restored, "results", restored)]  # Celery gives a list on MongoDB


def main() -> None:
    """Answer until the questions end."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"value": globals()[name](*arguments)}
        except BaseException:  # noqa: BLE001 boundary: whatever goes wrong is the answer
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)
    app.close()


if __name__ == "__main__":
    main()
