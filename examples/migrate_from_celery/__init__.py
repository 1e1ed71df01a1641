"""A Celery project's tasks before and after: only the names in the imports differ."""
