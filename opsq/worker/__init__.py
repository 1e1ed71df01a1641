"""Celery's package of this name, as far as user code imports from it."""
