"""One signing application for both libraries; see ``test_signing.py``. From the environment: as ``fleet_app``."""

from __future__ import annotations

import importlib
import json
import os

library = importlib.import_module(os.environ["FLEET_LIBRARY"])

app = library.Celery("signing", broker=os.environ["FLEET_BROKER"], backend=os.environ["FLEET_RESULTS"])
app.conf.update(task_default_queue=os.environ["FLEET_QUEUE"], broker_connection_retry_on_startup=True)
app.conf.update(json.loads(os.environ["FLEET_SETTINGS"]))
if app.conf.task_serializer == "auth":
    app.setup_security(digest=app.conf.security_digest)  # Celery's default argument hides the setting


@app.task(name="signing.add")
def add(x, y):
    return x + y


@app.task(name="signing.add_later", bind=True)
def add_later(self, x, y):
    """Retried once and then followed by a call of its own: whoever runs this must sign both."""
    if not self.request.retries:
        raise self.retry(countdown=0)
    return add.delay(x, y).id
