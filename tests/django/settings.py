"""A Django project for tests. Its settings for opsq are under Celery's prefix, as in projects that come from there."""

import os
from pathlib import Path

from django import VERSION

DATA = Path(os.environ["PETS_DATA"])
SECRET_KEY = "for tests"
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = ["tests.django.pets.apps.PetsConfig", *([] if VERSION >= (6, 0) else ["django_tasks"])]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "pets.db",
        "OPTIONS": {"timeout": 20, "init_command": "PRAGMA journal_mode=WAL"},
    }
}
if "PETS_POSTGRES" in os.environ:
    user, host, port, name = os.environ["PETS_POSTGRES"].split(",")
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "USER": user,
        "HOST": host,
        "PORT": port,
        "NAME": name,
    }
TASKS = {
    "default": {"BACKEND": "opsq.contrib.django.tasks.OpsqBackend", "QUEUES": ["default", "slow"]},
    "eager": {"BACKEND": "opsq.contrib.django.tasks.OpsqBackend", "OPTIONS": {"app": "tests.django.pets.app:eager"}},
    "named": {"BACKEND": "opsq.contrib.django.tasks.OpsqBackend", "OPTIONS": {"app": "tests.django.pets.app:app"}},
}

CELERY_DATA_DIR = str(DATA / "opsq")
CELERY_WORKER_QUEUES = ["celery", "slow"]
CELERY_TASK_DEFAULT_PRIORITY = 4
CELERY_DB_REUSE_MAX = 10
