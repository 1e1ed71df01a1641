"""Changing ``celery`` to ``opsq`` in the imports is the whole migration, as far as this version goes."""

from __future__ import annotations

import importlib
import logging

import pytest

import opsq
from opsq import Opsq, current_app
from opsq.errors import OpsqError

NAMES = {
    "opsq": """Celery Task Signature chain group signature subtask maybe_signature shared_task current_app
        current_task uuid""",
    "opsq.app": "Celery app_or_default shared_task",
    "opsq.app.task": "Task Context",
    "opsq.canvas": "Signature chain group signature subtask maybe_signature",
    "opsq.exceptions": """Ignore Reject Retry ImproperlyConfigured SecurityError QueueNotFound IncompleteStream
        NotRegistered AlreadyRegistered TimeoutError MaxRetriesExceededError TaskRevokedError InvalidTaskError
        ChordError BackendError BackendGetMetaError BackendStoreError SoftTimeLimitExceeded
        TimeLimitExceeded WorkerLostError
        Terminated OperationalError WorkerShutdown WorkerTerminate CeleryError CeleryWarning TaskError TaskPredicate""",
    "opsq.result": "AsyncResult EagerResult GroupResult ResultSet allow_join_result result_from_tuple",
    "opsq.signals": "task_prerun task_postrun task_success task_failure worker_ready before_task_publish",
    "opsq.states": "PENDING STARTED SUCCESS FAILURE RETRY REVOKED READY_STATES UNREADY_STATES EXCEPTION_STATES",
    "opsq.utils": "uuid",
    "opsq.utils.log": "get_task_logger",
}


@pytest.mark.parametrize("module", NAMES)
def test_the_names_are_where_celery_has_them(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []
    assert all(hasattr(found, name) for name in getattr(found, "__all__", ()))


def test_the_app_class_has_both_names() -> None:
    assert opsq.Celery is Opsq
    assert issubclass(opsq.OpsqError, OpsqError)


def test_celerys_own_example(app: Opsq) -> None:
    from opsq.utils.log import get_task_logger

    logger = get_task_logger(__name__)
    assert isinstance(logger, logging.Logger)
    assert len(opsq.uuid()) == 36


def test_current_app_is_the_newest_or_the_chosen(app: Opsq) -> None:
    assert current_app.main == "shop"
    with Opsq("newer", broker="memory://") as newer:
        assert current_app.main == "newer"
        app.set_default()
        assert current_app.main == "shop"
        newer.set_current()
        assert current_app.main == "newer"
    assert current_app.main == "shop"


def test_revoking_with_no_worker_to_hear_it_is_no_error(app: Opsq) -> None:
    app.AsyncResult("x").revoke()
    assert app.AsyncResult("x").state == "PENDING"
