"""The store contract on Django's database and caches, in a process of its own: Django's settings are one per process.

Not collected by its name; ``test_results_apart.py`` starts it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import ClassVar

import pytest
from django.conf import settings as of_django

FOLDER = tempfile.mkdtemp(prefix="opsq-django-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
of_django.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{FOLDER}/django.sqlite",
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    },
    CACHES={
        "default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": f"{FOLDER}/cache"},
        "here": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    },
    USE_TZ=os.environ.get("DJANGO_WITH_ZONES") == "yes",
    TIME_ZONE="Asia/Kolkata",
)

from django.db import connection  # noqa: E402  # needs the settings

from opsq.core.backends.base import Backend  # noqa: E402
from opsq.core.backends.registry import open_backend  # noqa: E402
from opsq.errors import ConfigError  # noqa: E402
from opsq.settings import Settings  # noqa: E402
from opsq.testing.contract_backend import BackendContract, Store, put, unique  # noqa: E402


class TestDatabase(BackendContract):
    """``django-db``."""

    kept: ClassVar[tuple[str, ...]] = ("name", "args", "kwargs", "worker")

    @pytest.fixture
    def store(self) -> Store:
        """The project's database."""
        return {"result_backend": "django-db"}

    def test_tables_and_columns_are_those_of_django_celery_results(self, backend: Backend) -> None:
        """As its version 2.6 has them."""
        id = unique()
        put(backend, id, "SUCCESS", {"a": 1})
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT status, content_type, content_encoding, result, meta, periodic_task_name "
                "FROM django_celery_results_taskresult WHERE task_id = %s",
                [id],
            )
            assert cursor.fetchall() == [("SUCCESS", "application/json", "utf-8", '{"a": 1}', '{"children": []}', None)]


class TestSharedCache(BackendContract):
    """``django-cache`` on a cache that all processes share."""

    @pytest.fixture
    def store(self) -> Store:
        """The cache called default."""
        return {"result_backend": "django-cache"}


class TestOwnCache(BackendContract):
    """``django-cache`` on one in memory."""

    @pytest.fixture
    def store(self) -> Store:
        """Another cache, by ``cache_backend``."""
        return {"result_backend": "django-cache", "cache_backend": "here"}


def test_a_cache_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="'nowhere' is no cache"):
        open_backend("django-cache", Settings(cache_backend="nowhere"))
