"""Where the project of these tests keeps its data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """A function that makes the environment of a process of the project, without what would configure it otherwise."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OPSQ_", "CELERY_", "DJANGO_"))}
    base = {"DJANGO_SETTINGS_MODULE": "tests.django.settings", "PETS_DATA": str(tmp_path), "PYTHONPATH": str(ROOT)}
    return lambda **more: {**clean, **base, **more}
