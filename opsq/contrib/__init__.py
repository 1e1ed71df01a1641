"""Extras of Celery, under the names of its package."""
