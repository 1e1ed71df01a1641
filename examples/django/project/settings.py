"""Settings of the project; those of opsq begin with ``OPSQ_`` (``CELERY_`` would do as well)."""

import os
from pathlib import Path

from django import VERSION

DATA = Path(os.environ.get("SHOP_DATA", ".opsq"))
DATA.mkdir(parents=True, exist_ok=True)

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "only for this example")
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
INSTALLED_APPS = ["orders"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "project.urls"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "shop.db",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
    }
}

# What `django.tasks` (Django 6.0) or its backport `django_tasks` hands to opsq.
if VERSION < (6, 0):
    INSTALLED_APPS.append("django_tasks")
TASKS = {
    "default": {
        "BACKEND": "opsq.contrib.django.tasks.OpsqBackend",
        "QUEUES": ["default", "mail"],
    }
}

OPSQ_DATA_DIR = str(DATA)
OPSQ_WORKER_QUEUES = ["celery", "mail"]
OPSQ_BEAT_SCHEDULE = {
    "give up what nobody paid": {
        "task": "orders.tasks.expire_unpaid",
        "schedule": float(os.environ.get("SHOP_EXPIRE_EVERY_S", "60")),
    },
}
